# SPDX-License-Identifier: ISC
# plain build only
"""start - a spool that takes long to read is read to the end"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import TOP, Client, Gateway, Tap  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: s\r\n\r\nx\r\n"
work = tempfile.mkdtemp(prefix="milldam-shim.", dir="/tmp")


def restarts(gate):
    return next(p["restarts"] for p in gate.ctl_json("status")["processes"]
                if p["name"] == "queue.0")


@tap.test("a start that takes longer than hang-time is not cut off")
def _():
    os.chmod(work, 0o755)
    shim = work + "/slow_sync.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", shim,
                    TOP + "/tests/fault/slow_sync.c", "-ldl"], check=True)
    begin = time.monotonic()
    with Gateway(sink.port, extra="hang-time = 2s\n"
                 "queue { segment-size = 1M }\n", env={
            "LD_PRELOAD": shim, "SLOW_SYNC_MS": "900"}) as gate:
        assert restarts(gate) == 0, gate.log_text()
        assert time.monotonic() - begin > 2.5, "not slow enough to tell"
        gate.ctl("pause", "delivery")
        assert Client(gate).send(MAIL).startswith("250 ")
        gate.stop()
        gate.start()
        assert restarts(gate) == 0, gate.log_text()
        gate.ctl("resume", "delivery")
        assert len(sink.wait(1)) == 1


try:
    tap.run()
finally:
    shutil.rmtree(work)
    sink.close()
