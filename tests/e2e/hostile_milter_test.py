# SPDX-License-Identifier: ISC
# slow
"""hostile_milter - every fault at every step, under each failure action.

A scripted milter dies, stalls, trickles or lies at each command, beside a
policy without it.  Whatever it does: the client gets the reply that on-failure
says, the session goes on or ends as it should, other sessions do not notice,
each message answered 250 arrives untouched or is held, no process ends.
"""
import os
import re
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import OPTIONS, FakeMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, free_port,  # noqa: E402
                     wait_for, without_trace)
from sink import Sink  # noqa: E402

tap = Tap()
STEPS = "OCHMRTLNBE"
MAIL = b"Subject: t\r\nX-Other: u\r\n\r\nx\r\n"
# The name of each configuration, its options, and how replies begin.
WAYS = {
    "tempfail": ("on-failure = tempfail", ("451 4.7.1",)),
    "reject": ("on-failure = reject", ("550 5.7.1",)),
    "accept": ("on-failure = accept", ("250 ",)),
    "quarantine": ("on-failure = quarantine", ("250 ",)),
    "shutdown": ("on-failure = shutdown", ("421 4.7.0",)),
    "early": ("on-failure = tempfail early = yes", ("451 4.7.1", "421 4.7.1")),
    # Each fault on a connection that has served a session before.
    "reuse": ("on-failure = tempfail library = libmilter", ("451 4.7.1",)),
}
CONTINUE = packet(b"c")


def good(step):
    return OPTIONS if step == "O" else CONTINUE


def trickle(step):
    def send(conn):
        for byte in good(step):
            time.sleep(0.15)
            conn.sendall(bytes([byte]))
    return send


def progress(_):
    def send(conn):
        while True:  # until the other side closes
            conn.sendall(packet(b"p"))
            time.sleep(0.05)
    return send


def half(step):
    def send(conn):
        conn.sendall(good(step)[:3])
        raise OSError("dies")
    return send


def edit(code, data):
    """A change, then a verdict: a lie before the end of message."""
    return lambda step: packet(code, data) + good(step)


def index(n, data):
    return struct.pack(">I", n) + data


# What the milter does instead of answering.
FAULTS = {
    "dies": lambda step: "close",
    "stalls": lambda step: None,
    "trickles": trickle,
    "makes progress for ever": progress,
    "sends half a packet and dies": half,
    "says length 0": lambda step: struct.pack(">I", 0) + b"c",
    "says length 4 GB": lambda step: struct.pack(">I", 0xffffffff) + b"c",
    "says length 2 MB": lambda step: struct.pack(">I", 2 << 20) + b"c",
    "sends an unknown reply": lambda step: packet(b"?"),
    "sends a NUL reply": lambda step: packet(b"\0"),
    "negotiates once more": lambda step: OPTIONS + OPTIONS,
    "sends continue with a payload": lambda step: packet(b"c", b"x"),
    "sends 70,000 bytes with it":
        lambda step: packet(b"c", b"x" * 70000),
    "sends connection failed": lambda step: packet(b"f"),
    "sends a reply without digits":
        lambda step: packet(b"y", b"abc what\0"),
    "sends a reply of 250": lambda step: packet(b"y", b"250 fine\0"),
    "sends a reply of two codes":
        lambda step: packet(b"y", b"550-a\r\n250 b\0"),
    "sends a reply with NUL": lambda step: packet(b"y", b"550 a\0b\0"),
    "sends a reply with bare LF":
        lambda step: packet(b"y", b"550 a\n250 ok\0"),
    "sends a reply of 100 lines":
        lambda step: packet(b"y", b"550-x\r\n" * 100 + b"550 x\0"),
    "sends a header name with NUL": edit(b"h", b"X\0Y\0v\0"),
    "sends a header without NUL": edit(b"h", b"X\0v"),
    "injects a header": edit(b"h", b"X\0a\r\nBcc: b\0"),
    "sends a header name with a colon": edit(b"h", b"X: y\0v\0"),
    "sends a cut index": edit(b"i", b"\0\0"),
    "sends a recipient with a blank": edit(b"-", b"a b@to.test\0"),
    "sends a sender with a line end": edit(b"e", b"<a@b.test>\r\nX\0"),
    "adds a recipient without leave": edit(b"+", b"<new@to.test>\0"),
    "sends 5,000 changes": lambda step:
        packet(b"-", b"nobody@to.test\0") * 5000 + good(step),
    "sends noise": lambda step: bytes(range(7, 250)) * 20,
}
# At the end of message these are changes; before it they are lies.
CHANGES = {
    "inserts at 4 billion": packet(
        b"i", index(0xffffffff, b"X-New\0v\0")),
    "changes the last of 4 billion": packet(
        b"m", index(0xffffffff, b"X-New\0v\0")),
    "replaces the body by 70,000 bytes": packet(
        b"b", b"y" * 69998 + b"\r\n"),
}


class Ward:
    """One configuration: its milter, its listener, what it sent."""

    def __init__(self, way):
        self.way = way
        self.options, self.want = WAYS[way]
        self.fake = FakeMilter()
        self.port = free_port()
        self.sent = {}  # sender: where it should be
        self.runs = 0
        self.wrong = []

    def conf(self):
        return (f'milter "{self.way}" {{ endpoints = '
                f'{{ "{self.fake.endpoint()}" }} {self.options} '
                'timeout = { "connect=300ms" "command=300ms" '
                '"message=600ms" } }\n'
                f'policy "{self.way}" {{ authorise = "access" '
                f'chain = {{ "{self.way}" }} }}\n'
                f'listener "{self.way}" {{ policy = "{self.way}" '
                f'address = {{ "127.0.0.1:{self.port}" }} }}\n')

    def once(self, what, answers, want, where="arrived"):
        """One session with one message; where: it is after a 250."""
        self.fake.answers = answers
        sender = f"{self.way}-{self.runs}@from.test"
        self.runs += 1
        c = Client(gate, port=self.port)
        got = c.greeting
        if got.startswith("220 "):
            got = c.send(MAIL, sender=sender)
        if not got.startswith(want):
            self.wrong.append((what, got))
        if got.startswith("250 "):
            self.sent[sender] = where
        try:
            if got.startswith("421"):
                if c.file.read(1) != b"":
                    self.wrong.append((what, "still open"))
            elif not c.say("RSET").startswith("250"):
                self.wrong.append((what, "RSET"))
        except OSError as e:
            self.wrong.append((what, str(e)))
        c.close()
        return sender

    def run(self):
        where = "held" if self.way == "quarantine" else "arrived"
        for what, fault in FAULTS.items():
            for step in STEPS:
                want = self.want
                if self.way == "reuse":
                    self.once("before", {}, ("250 ",))
                    if step == "O":  # has been
                        want = ("250 ",)
                self.once((what, step), {step: fault(step)}, want, where)
        for what, change in CHANGES.items():
            for step in STEPS[1:-1]:
                self.once((what, step), {step: change + CONTINUE}, self.want,
                          where)
            self.once((what, "E", "dies"),
                      {"E": lambda conn, c=change: self.die(conn, c)},
                      self.want, where)
        # A second verdict may come too late to count.
        for step in STEPS[1:]:
            self.once(("two replies", step), {step: CONTINUE * 2},
                      self.want + ("250 ",), "either")
        self.once(("nothing",), {}, ("250 ",))

    @staticmethod
    def die(conn, data):
        conn.sendall(data)
        raise OSError("dies")


def bystander():
    """A client whose policy does not hold the milter."""
    while not done.is_set():
        began = time.monotonic()
        sender = f"by-{len(others)}@from.test"
        got = Client(gate).send(MAIL, sender=sender)
        others.append((sender, got, time.monotonic() - began))
        time.sleep(0.01)


sink = Sink()
wards = [Ward(way) for way in WAYS]
gate = Gateway(sink.port, extra="".join(w.conf() for w in wards))
done = threading.Event()
others = []


@tap.test("each fault at each step: others go on as if nothing was")
def _():
    threads = [threading.Thread(target=w.run) for w in wards]
    aside = threading.Thread(target=bystander)
    for t in [*threads, aside]:
        t.start()
    for t in threads:
        t.join()
    done.set()
    aside.join()
    assert len(others) > 50, len(others)
    assert all(got.startswith("250 ") for _, got, _ in others), others
    slowest = max(took for _, _, took in others)
    assert slowest < 5, slowest


for ward in wards:
    @tap.test(f"each fault at each step: {ward.options}")
    def _(ward=ward):
        assert len(ward.fake.seen) > 500
        assert not ward.wrong, (len(ward.wrong), ward.wrong[:10])


@tap.test("what was answered 250 arrived untouched, or is held")
def _():
    sent = {s: where for w in wards for s, where in w.sent.items()}
    sent.update((s, "arrived") for s, _, _ in others)
    want = {s for s, where in sent.items() if where == "arrived"}

    def arrived():
        return {m.sender for m in sink.messages if m.sender}

    def held():
        return {m["sender"] for m in gate.ctl_json("queue", "list")
                if m["state"] == "held"}
    wait_for(lambda: want <= arrived(), 30)
    wait_for(lambda: set(sent) == arrived() | held(), 10, 0.5)
    assert want <= arrived(), want - arrived()
    assert set(sent) == arrived() | held()
    assert not arrived() & held()
    stays = {s for s, where in sent.items() if where == "held"}
    assert stays <= held() and len(stays) > 200, stays - held()
    for m in sink.messages:
        assert not m.sender or without_trace(m.content) == MAIL, m.content
        assert not m.sender or m.rcpts == ["b@to.test"], m.rcpts


@tap.test("changes at the end of message are made, however odd")
def _():
    ward = wards[0]
    for what, change in CHANGES.items():
        sender = ward.once((what, "E"), {"E": change + CONTINUE}, ("250 ",))
        assert not ward.wrong, ward.wrong
        m = wait_for(lambda s=sender: [m for m in sink.messages
                                       if m.sender == s])
        if "body" in what:
            assert m[0].content.endswith(b"\r\n\r\n" + b"y" * 69998 + b"\r\n")
        else:
            assert without_trace(m[0].content) == MAIL.replace(
                b"\r\n\r\n", b"\r\nX-New: v\r\n\r\n", 1), m[0].content


@tap.test("no process ended, and the faults are counted")
def _():
    status = gate.ctl_json("status")
    assert not [p for p in status["processes"] if p["restarts"]], status
    stats = {}
    for line in gate.log_text().splitlines():
        for way in WAYS:
            stats[way] = stats.get(way, 0) + (f"milter={way}: " in line)
    assert all(n > 200 for n in stats.values()), stats
    table = gate.ctl("status").stdout
    fail_open = re.search(r"^accept +\S+ +\d+ +\d+ +(\d+)", table, re.M)
    assert int(fail_open.group(1)) > 200, table


try:
    with gate:
        tap.run()
finally:
    sink.close()
