# SPDX-License-Identifier: ISC
# slow
"""sdk_events_test - what only the events back-end promises: many connections,
few threads, no session stopped by another, MTAs that misbehave"""
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import sdkfilter  # noqa: E402
from gateway import Tap, wait_for  # noqa: E402
from miltermta import Session, z  # noqa: E402
from sanitizer import refuse_reports  # noqa: E402
from sdkfilter import SANITIZE  # noqa: E402

tap = Tap()
DIR = tempfile.mkdtemp(prefix="milldam-events.", dir="/tmp")
FILTER = os.path.join(DIR, "sdk-filter")
WORKERS = 64  # workers.h
OTHERS = 8    # main, loop, progress; a sanitizer's


def same(got, want):
    assert got == want, f"{got!r} is not {want!r}"


class Running:
    """The filter, with its message function slow and the others quick."""
    n = 0

    def __init__(self, files=None):
        Running.n += 1
        self.path = os.path.join(DIR, f"s{Running.n}")
        self.log = os.path.join(DIR, f"l{Running.n}")

        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen(
                [FILTER, "-p", self.path, "-e", "events"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=limit if files else None,
                env=dict(os.environ, SDK_QUICK="1"))
        assert wait_for(lambda: "started" in self.text()), self.text()

    def text(self):
        with open(self.log) as f:
            return f.read()

    def status(self, name):
        with open(f"/proc/{self.proc.pid}/status") as f:
            return int(next(line.split()[1] for line in f
                            if line.startswith(name + ":")))

    def session(self, **kw):
        return Session(self.path, **kw)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            sys.stderr.write(self.text()[-2000:])
        if self.proc.poll() is None:
            self.proc.terminate()
        status = self.proc.wait(30)
        refuse_reports(self.text())
        if exc[0] is None:
            same(status, 0)


def message(s, rcpt="<b@to.test>"):
    s.mail()
    got = s.rcpt(rcpt)
    return got if got != "c" else s.content()


def more_files(n):
    """Descriptors for n connections, or as many as there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = n + 200 if hard == resource.RLIM_INFINITY else min(n + 200, hard)
    if soft < want:
        resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))
    return want - 200


@tap.test("serves 5,000 open connections with as few threads as one")
def many():
    n = more_files(5000)
    with Running() as r:
        first = r.session()
        first.connect()
        same(message(first), "c")
        threads, before = r.status("Threads"), r.status("VmRSS")
        idle = [r.session() for _ in range(n)]
        pooled = r.status("VmRSS")
        same(r.status("Threads"), threads)
        for i, s in enumerate(idle):
            s.connect("192.0.2.1", f"c{i}.test")
        last = idle[-1]  # far beyond what select() takes
        same(last.mail(), "")
        same(last.rcpt("<tell@to.test>"), "c")
        same(last.content(), "y")
        assert f"client=c{n - 1}.test" in last.reply, last.reply
        same(idle[0].helo(), "c")
        used = r.status("VmRSS")
        assert r.status("Threads") <= threads + 1
        print(f"# {n} connections: {(pooled - before) / n:.2f} KiB each, "
              f"in a session {(used - before) / n:.2f} KiB")
        if not SANITIZE:
            assert pooled - before < 4 * n and used - before < 32 * n
        for s in (first, *idle):
            s.sock.close()
        same(message(r.session()), "c")


@tap.test("slow messages stop no other session, and none is forgotten")
def slow():
    with Running() as r:
        sessions = [r.session() for _ in range(WORKERS + 3)]
        got = []

        def work(s):
            s.connect()
            got.append((message(s, "<sleep6@to.test>"), s.progress))
        threads = [threading.Thread(target=work, args=(s,)) for s in sessions]
        for t in threads:
            t.start()
        # all workers are busy, and messages wait
        assert wait_for(lambda: r.status("Threads") >= WORKERS)
        s = r.session()
        before = time.monotonic()
        s.connect()
        same(s.helo(), "c")
        s.mail()
        for i in range(50):
            same(s.rcpt(f"<b{i}@to.test>"), "c")
        took = time.monotonic() - before
        assert r.status("Threads") <= WORKERS + OTHERS
        for t in threads:
            t.join()
        assert took < 4, took
        same([g[0] for g in got], ["c"] * len(sessions))
        # those that waited for a worker were told to be patient too
        assert sum(p >= 2 for _, p in got) >= 3, got
        same(s.content(), "c")


@tap.test("hears what comes while a function waits")
def meanwhile():
    with Running() as r:
        s = r.session()
        s.connect()
        s.mail()
        same(s.rcpt("<sleep2@to.test>"), "c")
        s.packet("E")
        time.sleep(0.7)
        s.packet("M", z("<a@from.test>"))
        s.packet("R", z("<b@to.test>"))
        s.packet("E")
        same([s.read()[0] for _ in range(3)], ["c"] * 3)
        s.close()


@tap.test("begins a session after QUIT_NC from every state")
def quit_nc():
    steps = [lambda s: s.connect("192.0.2.9", "old.test"), Session.helo,
             Session.mail, Session.rcpt,
             lambda s: s.command("L", z("A", "b")),
             lambda s: s.command("B", b"x"), lambda s: s.command("E"),
             Session.abort]
    with Running() as r:
        for n in range(len(steps) + 1):
            s = r.session()
            for step in steps[:n]:
                step(s)
            s.packet("K")
            s.connect("192.0.2.8", "new.test")
            s.mail()
            same(s.rcpt("<tell@to.test>"), "c")
            same(s.content(), "y")
            assert "client=new.test" in s.reply and "n=1" in s.reply, s.reply
            s.close()


@tap.test("an MTA that does not read stops only itself")
def does_not_read():
    n = 400000
    with Running() as r:
        s = r.session()
        s.connect()
        s.sock.setblocking(False)
        data = struct.pack(">I", 1) + b"T"
        sent, todo = 0, data * n
        end = time.monotonic() + 30

        def send():
            nonlocal sent
            try:
                while sent < len(todo):
                    sent += s.sock.send(todo[sent:sent + 100000])
            except BlockingIOError:
                pass
            return sent
        send()
        while time.monotonic() < end:  # until nothing goes any more
            before = sent
            time.sleep(0.3)
            if send() == before:
                break
        assert sent < len(todo), "all was taken"
        same(message(r.session()), "c")
        if not SANITIZE:
            assert r.status("VmRSS") < 40000
        # it reads at last: each command has its answer
        got = b""
        while len(got) < len(todo):
            send()
            try:
                got += s.sock.recv(1 << 20)
            except BlockingIOError:
                time.sleep(0.01)
            assert time.monotonic() < end + 60
        same(got, (struct.pack(">I", 1) + b"c") * n)


@tap.test("more connections than descriptors wait for their turn")
def few_files():
    with Running(files=256) as r:
        first = [r.session() for _ in range(128)]
        late = socket.socket(socket.AF_UNIX)
        late.connect(r.path)
        assert wait_for(lambda: "are the limit" in r.text())
        same(message(first[0]), "c")
        for s in first:
            s.close()
        s = Session.__new__(Session)  # the one that waited is served
        s.sock, s.edits, s.progress = late, [], 0
        late.settimeout(20)
        s.packet("O", struct.pack(">III", 6, 0x1FF, 0x1FFFFF))
        same(s.read()[0], "O")
        same(message(r.session()), "c")


@tap.test("forgets sessions that break off, in a decision too")
def breaks_off():
    with Running() as r:
        for i in range(60):
            s = r.session()
            s.connect()
            s.mail()
            if i % 3 > 0:
                s.rcpt("<sleep1@to.test>")
            if i % 3 > 1:
                s.packet("E")
            s.sock.close()
        fds = f"/proc/{r.proc.pid}/fd"
        few = 16
        assert wait_for(lambda: len(os.listdir(fds)) < few), os.listdir(fds)
        same(message(r.session()), "c")


if __name__ == "__main__":
    try:
        sdkfilter.build(FILTER, SANITIZE)
        tap.run()
    finally:
        shutil.rmtree(DIR, ignore_errors=True)
