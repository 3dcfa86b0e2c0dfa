# SPDX-License-Identifier: ISC
# plain build only
# slow
"""durability - 250 waits for the flush"""
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
MAIL = b"Subject: d\r\n\r\nx\r\n"


def rate(env, seconds=2):
    """Messages a second of one session."""
    sink = Sink()
    with Gateway(sink.port, env=env) as gate:
        c = Client(gate)
        c.send(MAIL)
        n, begin = 0, time.monotonic()
        while time.monotonic() - begin < seconds:
            assert c.send(MAIL, ehlo=False).startswith("250 ")
            n += 1
        got = n / (time.monotonic() - begin)
    sink.close()
    return got


@tap.test("with 10 ms added to each flush one session stays below 100 msg/s")
def _():
    work = tempfile.mkdtemp(prefix="milldam-shim.", dir="/tmp")
    try:
        os.chmod(work, 0o755)
        shim = work + "/slow_sync.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o",
                        shim, TOP + "/tests/fault/slow_sync.c", "-ldl"],
                       check=True)
        slow = rate({"LD_PRELOAD": shim, "SLOW_SYNC_MS": "10"})
        fast = rate({})
        print(f"# {slow:.0f} msg/s with the delay, {fast:.0f} without")
        assert slow < 100, slow
        assert fast > slow * 1.5, (fast, slow)
    finally:
        shutil.rmtree(work)


def trace(pids, path):
    """strace of these processes into path; returns once it is attached."""
    args = [a for p in pids for a in ("-p", str(p))]
    tracer = subprocess.Popen(
        ["strace", "-f", "-s", "600", "-e", "trace=fdatasync,read,readv,"
         "recvfrom,recvmsg,write,writev,sendto,sendmsg", "-o", path, *args],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for _ in pids:
        assert "attached" in tracer.stderr.readline()
    time.sleep(0.2)
    return tracer


@tap.test("a trace of 200 messages: a flush ends between last byte and 250")
def _():
    sink = Sink()
    with Gateway(sink.port) as gate:
        pids = [p["pid"] for p in gate.ctl_json("status")["processes"]
                if p["name"] in ("receiver.0", "queue.0")]
        path = gate.dir + "/trace"
        c = Client(gate)
        c.say("EHLO trace.test")
        tracer = trace(pids, path)
        try:
            for _ in range(200):
                assert c.send(b"Subject: t\r\n\r\nlast byte\r\n",
                              ehlo=False).startswith("250 ")
        finally:
            tracer.terminate()
            tracer.wait(30)
        with open(path, errors="replace") as f:
            lines = f.readlines()
    sink.close()
    flushed = None
    answers = 0
    for line in lines:
        if 'last byte\\r\\n.\\r\\n"' in line and (
                " read" in line or " recv" in line or "resumed" in line):
            flushed = False
        elif "fdatasync" in line and line.rstrip().endswith("= 0"):
            if flushed is not None:
                flushed = True
        elif "Message accepted for delivery" in line:
            assert flushed, "250 without a flush: " + line
            flushed = None
            answers += 1
    assert answers == 200, answers


tap.run()
