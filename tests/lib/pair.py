# SPDX-License-Identifier: ISC
"""pair - a test for each of libmilldam's back-ends, both at the same time"""
import os
import sys
import tempfile
import traceback

ENGINES = ("libmilter", "events")


class Pair:
    """Runs fn(engine) in a process for each back-end: what they do must be the
    same.  wait(engine) raises what that one said if it failed."""

    def __init__(self, fn):
        self.fn = fn
        self.runs = {}

    def run(self, engine, said):
        try:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            self.fn(engine)
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def start(self):
        for engine in ENGINES:
            said = tempfile.TemporaryFile()
            pid = os.fork()
            if pid == 0:
                self.run(engine, said)
            self.runs[engine] = pid, said

    def wait(self, engine):
        if not self.runs:
            self.start()
        pid, said = self.runs[engine]
        status = os.waitpid(pid, 0)[1]
        said.seek(0)
        text = said.read().decode(errors="replace")
        said.close()
        assert status == 0, text
