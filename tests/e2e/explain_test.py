# SPDX-License-Identifier: ISC
"""explain - decision records found by id, Message-ID, sender, recipient, time"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()


def mail(n):
    return (f"From: <a@from.test>\r\nMessage-ID: <m{n}@from.test>\r\n\r\n"
            "x\r\n").encode()


def send(gate, n, sender, rcpts):
    got = Client(gate).send(mail(n), sender=sender, rcpts=rcpts)
    return got


def ids(gate, *words):
    return [r["id"] for r in gate.ctl_json("explain", *words)]


@tap.test("each thing that can be asked for finds its messages")
def _():
    with Gateway(sink.port) as gate:
        sent = {}
        for n in range(6):
            sent[n] = send(gate, n, f"s{n % 2}@From.test",
                           ("b@to.test", f"r{n}@other.test")).split()[2]
        assert wait_for(lambda: len(ids(gate, "--since", "1h")) == 6)
        # newest first
        assert ids(gate, "--since", "1h") == [sent[n] for n in
                                              (5, 4, 3, 2, 1, 0)]
        assert ids(gate, sent[3]) == [sent[3]]
        assert ids(gate, "m4@from.test") == [sent[4]]
        assert ids(gate, "<m4@from.test>") == [sent[4]]
        assert ids(gate, "--message-id", "m4@from.test") == [sent[4]]
        assert ids(gate, "--from", "s1@from.test") == [
            sent[5], sent[3], sent[1]]
        assert ids(gate, "--to", "R2@other.test") == [sent[2]]
        assert len(ids(gate, "--to", "@other.test")) == 6
        assert ids(gate, "--from", "s0@from.test", "--to", "r2@other.test",
                   "--since", "1h") == [sent[2]]
        assert len(ids(gate, "--to", "b@to.test", "--limit", "2")) == 2
        assert ids(gate, "--until", "1h") == []
        assert ids(gate, "--from", "<>") == []
        one = gate.ctl_json("explain", sent[3])[0]
        assert one["message_id"] == "<m3@from.test>", one
        # a person's view: one line each, or all
        p = gate.ctl("explain", "--from", "s1@from.test")
        assert p.returncode == 0 and len(p.stdout.splitlines()) == 4
        assert "access" in gate.ctl("explain", "--from", "s1@from.test",
                                    "--full").stdout
        p = gate.ctl("explain", "--from", "nobody@nowhere.test")
        assert p.returncode == 0 and p.stdout == "Nothing found.\n", p
        p = gate.ctl("explain", "nosuchid")
        assert p.returncode == 1 and "unknown id" in p.stderr, p
        assert gate.ctl("explain").returncode == 64
        assert gate.ctl("explain", "--since", "soon").returncode == 64
        assert gate.ctl("explain", "--limit", "0").returncode == 1
        # still there, from the day file, after a restart
        gate.stop()
        gate.start()
        assert ids(gate, sent[3]) == [sent[3]]


@tap.test("a large store: a search is fast and does not stop the queue")
def _():
    with Gateway(sink.port) as gate:
        gate.stop()
        day = time.strftime("%Y-%m-%d", time.gmtime())
        folder = gate.dir + "/spool/records"
        n = 300000
        pad = "x" * 600
        with open(f"{folder}/{day}.jsonl", "a") as f:
            for i in range(n):
                f.write('{"id":"%012d","time":"%sT00:00:00.000Z","sender":'
                        '"s%d@big.test","recipients":["r@big.test"],'
                        '"milters":"%s"}\n' % (i, day, i, pad))
        gate.start()
        begin = time.monotonic()
        assert ids(gate, "--from", "s7@big.test") == ["%012d" % 7]
        took = time.monotonic() - begin
        print(f"# {n} records: {took:.2f} s")
        assert took < 10
        p = gate.ctl("--json", "explain", "--to", "r@big.test", "--limit",
                     "10000")
        assert len(json.loads(p.stdout)) == 10000
        assert send(gate, 1, "a@from.test", ("b@to.test",)).startswith("250")


tap.run()
