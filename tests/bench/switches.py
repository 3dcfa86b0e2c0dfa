#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""switches - what a filter costs in context switches and system calls

    MILLDAM_INST=DIR switches.py --filter PROGRAM [--messages N] [--size BYTES]

PROGRAM is a filter that takes its socket as -p ENDPOINT.  Counts both sides:
the receiver's (/proc/PID/status) and the filter's (its whole life, by wait4),
per filter and message, with the receiver's own without a filter taken away.
Counts stay the same on a busy machine, within a few per cent.
"""
import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../lib"))
from gateway import Client, Gateway, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

WAYS = (("none", 0, ""), ("safe", 1, "library = other"),
        ("full, a connection for each session", 1, "pipeline = full"),
        ("full, connections kept", 1, "library = libmilter"),
        ("four: full, connections kept", 4, "library = libmilter"))


def switches(pid):
    with open(f"/proc/{pid}/status") as f:
        return sum(int(line.split()[1]) for line in f if "ctxt_sw" in line)


def load(gate, content, messages, sessions):
    left = [messages]
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
            c = Client(gate)
            assert c.send(content).startswith("250 ")
            c.say("QUIT")
            c.close()
    threads = [threading.Thread(target=work) for _ in range(sessions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def calls(pid, run):
    """System calls of the process while run() goes on."""
    with tempfile.NamedTemporaryFile("r") as out:
        p = subprocess.Popen(["strace", "-c", "-f", "-o", out.name, "-p",
                              str(pid)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        run()
        p.send_signal(signal.SIGINT)
        p.wait()
        for line in out.read().splitlines():
            words = line.split()
            if words and words[-1] == "total":
                return int(words[2] if len(words) == 4 else words[3])
    return 0


def one(args, sink, n, options):
    dir = tempfile.mkdtemp(prefix="switches.")
    os.chmod(dir, 0o755)
    filters = [subprocess.Popen([args.filter, "-p", f"unix:{dir}/{i}"],
                                stdin=subprocess.DEVNULL) for i in range(n)]
    assert wait_for(lambda: len(os.listdir(dir)) == n)
    milters = "".join(f'milter "f{i}" {{ endpoints = {{"unix:{dir}/{i}"}} '
                      f'{options} }}\n' for i in range(n))
    content = b"".join(b"X-F%d: v\r\n" % i for i in range(10)) + b"\r\n" + \
        (b"x" * 78 + b"\r\n") * (args.size // 80)
    with Gateway(sink.port, chain=("access", *(f"f{i}" for i in range(n))),
                 milters=milters) as gate:
        pid = gate.pid("receiver")
        load(gate, content, 20, 2)
        before = switches(pid)
        load(gate, content, args.messages, args.sessions)
        receiver = (switches(pid) - before) / args.messages
        count = 0
        if args.strace:
            count = calls(pid, lambda: load(gate, content, 200, 2)) / 200
    theirs = 0
    for f in filters:
        f.terminate()
        _, _, use = os.wait4(f.pid, 0)
        f.returncode = 0
        theirs += use.ru_nvcsw + use.ru_nivcsw
    told = args.messages + 20 + (200 if args.strace else 0)
    return receiver, theirs / told, count


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--filter", required=True)
    p.add_argument("--messages", type=int, default=2000)
    p.add_argument("--sessions", type=int, default=10)
    p.add_argument("--size", type=int, default=10000)
    p.add_argument("--strace", action="store_true")
    args = p.parse_args()
    sink = Sink()
    none = None
    print("| filters | receiver | filters | both, per filter | "
          "system calls of the receiver |\n|---|---|---|---|---|")
    for name, n, options in WAYS:
        ours, theirs, count = one(args, sink, n, options)
        none = ours if none is None else none
        each = (ours - none + theirs) / n if n else 0
        print(f"| {name} | {ours:.1f} | {theirs:.1f} | {each:.1f} | "
              f"{count:.0f} |", flush=True)


main()
