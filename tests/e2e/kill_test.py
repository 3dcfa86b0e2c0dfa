# SPDX-License-Identifier: ISC
# slow
"""kill - processes are killed under load; what was answered 250 arrives

At each kill, by the gateway's own counters, at least 20 messages are between
end of data and 250, and 20 in delivery; a round with fewer does not count.
A flush made slow and a slow next hop keep that many on the way.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import TOP, Client, Gateway, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
KINDS = ["receiver", "queue", "relay", "lookup", "supervisor",
         "milter.access"]
ROUNDS = int(os.environ.get("MILLDAM_KILL_ROUNDS", "50"))
SESSIONS = 60
ON_THE_WAY = 20
work = tempfile.mkdtemp(prefix="milldam-kill.", dir="/tmp")
os.chmod(work, 0o755)


def shim(name):
    out = f"{work}/{name}.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-O1", "-o",
                    out, f"{TOP}/tests/fault/{name}.c", "-ldl"], check=True)
    return out


class Load:
    """Sessions that send numbered messages for as long as they may."""

    def __init__(self, gate):
        self.gate = gate
        self.acked = set()
        self.tried = 0
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True)
                        for _ in range(SESSIONS)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.stop.is_set():
            try:
                self.session()
            except OSError:
                time.sleep(0.05)

    def session(self):
        c = Client(self.gate)
        try:
            if not c.greeting.startswith("220"):
                time.sleep(0.1)
                return
            c.say("EHLO load.test")
            for _ in range(20):
                with self.lock:
                    self.tried += 1
                    n = self.tried
                got = c.send(b"Subject: k\r\n\r\nid-%d.\r\n" % n, ehlo=False)
                if got.startswith("250 "):
                    with self.lock:
                        self.acked.add(n)
                elif not got.startswith("4"):
                    return
                if self.stop.is_set():
                    return
        finally:
            c.close()

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(60)


def numbers(sink):
    """{number: [when it arrived, ...]}"""
    seen = {}
    for m in list(sink.messages):
        for x in re.findall(rb"id-(\d+)\.", m.content):
            seen.setdefault(int(x), []).append(m.at)
    return seen


def on_the_way(gate, needed):
    """(submitting, delivering, processes) once both are enough."""
    def look():
        try:
            status = json.loads(gate.ctl("--json", "status").stdout)
        except (ValueError, subprocess.TimeoutExpired):
            return None
        sub = deliv = 0
        for p in status.get("processes", []):
            info = p.get("info", {})
            sub += info.get("submitting", 0) \
                if p["name"].startswith("receiver") else 0
            deliv += info.get("delivering", 0) \
                if p["name"].startswith("queue") else 0
        last[:] = [sub, deliv]
        return ((sub, deliv, status["processes"])
                if sub >= needed and deliv >= needed and
                all(p["pid"] for p in status["processes"]) else None)
    last = []
    found = wait_for(look, 40, 0.02)
    assert found, f"not enough on the way: {last}"
    return found


def kill_one(gate, kind, processes):
    if kind == "supervisor":
        gate.kill()
        time.sleep(0.2)
        gate.start()
        return
    pid = next(p["pid"] for p in processes
               if kind in (p["name"], p["name"].split(".")[0]))
    assert pid > 1, f"{kind} does not run"
    os.kill(pid, signal.SIGKILL)


def rounds(gate, load, n, kinds):
    kills, least = [], [10 ** 6, 10 ** 6]
    for i in range(n):
        kind = kinds[i % len(kinds)]
        sub, deliv, processes = on_the_way(gate, ON_THE_WAY)
        least = [min(least[0], sub), min(least[1], deliv)]
        before = len(load.acked)
        kills.append(time.monotonic())
        kill_one(gate, kind, processes)
        assert wait_for(lambda: len(load.acked) > before + 20, 60), \
            f"no mail was accepted after {kind} was killed"
    return kills, least


def gateway(sink, preload):
    return Gateway(
        sink.port, extra="queue { retry-min = 1s retry-max = 2s "
        "site-concurrency = 60 }\nlimits { sessions-per-client = 500 }\n",
        env={"LD_PRELOAD": preload, "SLOW_SYNC_MS": "100"})


@tap.test(f"{ROUNDS} rounds of kill -9 lose no acknowledged message")
def _():
    sink = Sink()
    sink.delay = 0.2
    with gateway(sink, shim("slow_sync")) as gate:
        load = Load(gate)
        try:
            kills, least = rounds(gate, load, ROUNDS, KINDS)
        finally:
            load.end()
        sink.delay = 0
        wait_for(lambda: not load.acked - set(numbers(sink)), 90, 0.5)
        seen = numbers(sink)
        lost = load.acked - set(seen)
        twice = {n: at for n, at in seen.items() if len(at) > 1}
        print(f"# {len(load.acked)} acknowledged, {len(twice)} more than "
              f"once; at each kill at least {least[0]} before 250 and "
              f"{least[1]} in delivery")
        assert not lost, f"{len(lost)} of {len(load.acked)} were lost"
        # a duplicate needs a kill while it was in delivery, or before its
        # outcome was written: not long before its first arrival, or after
        for n, at in twice.items():
            assert any(min(at) - 0.5 < k < max(at) for k in kills), (n, at)
        left = wait_for(lambda: gate.ctl_json("queue", "list") == [], 30, 0.5)
        assert left, gate.ctl("queue", "list").stdout
    sink.close()


@tap.test("a gateway that answers before the journal write is found out")
def _():
    sink = Sink()
    sink.delay = 0.2
    both = shim("slow_sync") + ":" + shim("lazy_write")
    with gateway(sink, both) as gate:
        load = Load(gate)
        try:
            rounds(gate, load, 3, ["queue"])
        finally:
            load.end()
        sink.delay = 0
        wait_for(lambda: not load.acked - set(numbers(sink)), 10, 0.5)
        lost = load.acked - set(numbers(sink))
        print(f"# {len(lost)} of {len(load.acked)} were lost")
        assert lost
    sink.close()


try:
    tap.run()
finally:
    shutil.rmtree(work, ignore_errors=True)
