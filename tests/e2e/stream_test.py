# SPDX-License-Identifier: ISC
"""stream - large messages go to milters while they still arrive

What must not differ from a gateway that shows them when they are whole:
replies, what is delivered, what the decision record says.
"""
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, stuff, wait_for,  # noqa: E402
                     without_trace)
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
QUARANTINE, ALL = 0x20, 0x1ff


class Filter(FakeMilter):
    """May change what `actions` says; script: {command: answer}, or
    {(command, nth of the message): answer}."""

    def __init__(self, actions=ALL):
        super().__init__()
        self.actions = actions
        self.script = {}
        self.count = {}
        for c in "OCHMRTLNBE":
            self.answers[c] = lambda conn, c=c: self.answer(c)

    def answer(self, c):
        if c == "O":
            return packet(b"O", struct.pack(">III", 6, self.actions, 0))
        if c == "M":
            self.count = {}
        n = self.count[c] = self.count.get(c, 0) + 1
        got = self.script.get((c, n), self.script.get(c, packet(b"c")))
        if got == "close":
            raise OSError("as the script says")
        return got

    def body(self):
        return b"".join(d for c, d in self.seen if c == b"B")

    def clear(self, script=None):
        self.script = script or {}
        self.seen.clear()


fa, fb = Filter(QUARANTINE), Filter(QUARANTINE)


def gateway(limits="stream-size = 64K", options="", extra="", chain="ab"):
    milters = "".join(
        f'milter "{n}" {{ endpoints = {{"{f.endpoint()}"}} {options} }}\n'
        for n, f in (("a", fa), ("b", fb)))
    return Gateway(sink.port, chain=("access", *chain), milters=milters,
                   extra=f"limits {{ inline-size = 1M {limits} }}\n{extra}")


def mail(size, end=b""):
    line = b"." + b"x" * 69 + b"\r\n"
    return b"Subject: large\r\nX-Old: 1\r\n\r\n" + line * (size // 72) + end


class Sender(Client):
    """One message in pieces."""

    def begin(self, rcpts=("r@to.test",)):
        self.say("EHLO client.test")
        assert self.say("MAIL FROM:<a@from.test>").startswith("250")
        for r in rcpts:
            got = self.say(f"RCPT TO:<{r}>")
            assert got.startswith("250"), got
        assert self.say("DATA").startswith("354")

    def end(self):
        self.sock.sendall(b".\r\n")
        return self.reply()


def memory_files(pid):
    """Files of content that the process has open."""
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return [n for n in names if "memfd:content" in n or "deleted" in n]


@tap.test("filters are told while DATA arrives, side by side, to the byte")
def _():
    content = mail(600000)
    half = content.index(b"\r\n", 300000) + 2
    for options in ("pipeline = safe", "pipeline = full"):
        with gateway(options=options) as gate:
            fa.clear(), fb.clear()
            n = len(sink.messages)
            c = Sender(gate)
            c.begin()
            c.sock.sendall(stuff(content[:half]))
            assert wait_for(lambda: fa.commands().count("B") >= 4)
            assert wait_for(lambda: fb.commands().count("B") >= 4)
            assert "E" not in fa.commands() + fb.commands()
            c.sock.sendall(stuff(content[half:]))
            assert c.end().startswith("250 ")
            got = sink.wait(n + 1)[n]
            assert without_trace(got.content) == content
            want = content.partition(b"\r\n\r\n")[2]
            assert fa.body() == want and fb.body() == want
            assert fa.commands().count("E") == 1


@tap.test("a refusal amid DATA: others stop, the rest is dropped, then 550")
def _():
    with gateway() as gate:
        fa.clear({("B", 3): packet(b"y", b"550 5.7.1 Seen enough\0")})
        fb.clear()
        n = len(sink.messages)
        pid = gate.pid("receiver")
        c = Sender(gate)
        c.begin()
        c.sock.sendall(mail(400000))
        assert wait_for(lambda: fb.commands()[-1:] in ("A", "Q"))
        c.sock.sendall(b"more\r\n")
        assert wait_for(lambda: not memory_files(pid)), memory_files(pid)
        for _ in range(10):
            c.sock.sendall((b"z" * 98 + b"\r\n") * 1000)
        assert not memory_files(pid), memory_files(pid)
        assert "E" not in fb.commands()
        assert c.end() == "550 5.7.1 Seen enough"
        fa.clear(), fb.clear()
        assert c.send(mail(300000), ehlo=False).startswith("250 ")
        assert len(sink.wait(n + 1)) == n + 1


@tap.test("the client gives up amid DATA: filters are told, nothing is left")
def _():
    with gateway() as gate:
        fa.clear(), fb.clear()
        pid = gate.pid("receiver")
        c = Sender(gate)
        c.begin()
        c.sock.sendall(mail(400000))
        assert wait_for(lambda: fb.commands().count("B") >= 4)
        c.close()
        assert wait_for(lambda: fa.commands()[-1:] in ("A", "Q"))
        assert wait_for(lambda: not memory_files(pid))
        fa.clear(), fb.clear()
        assert Client(gate).send(mail(300000)).startswith("250 ")


@tap.test("an endpoint that dies amid DATA: another is told from the start")
def _():
    content = mail(900000)
    half = content.index(b"\r\n", 450000) + 2
    more = ('milter "g" { endpoints = {"%s", "%s"} }\n'
            % (fa.endpoint(), fb.endpoint()))
    with gateway(extra=more, chain="g") as gate:
        fa.clear({("B", 4): "close"})
        fb.clear()
        n = len(sink.messages)
        c = Sender(gate)
        c.begin()
        c.sock.sendall(stuff(content[:half]))
        assert wait_for(lambda: fb.commands().count("B") >= 5)
        c.sock.sendall(stuff(content[half:]))
        assert c.end().startswith("250 ")
        assert without_trace(sink.wait(n + 1)[n].content) == content
        assert fb.body() == content.partition(b"\r\n\r\n")[2]


@tap.test("groups of recipients: each has its own bytes")
def _():
    content = mail(500000)
    half = content.index(b"\r\n", 250000) + 2
    rules = ('policy "inbound" { rule "plain" '
             '{ recipient = {"plain@*"} skip = {"b"} } }')
    with gateway(extra=rules) as gate:
        fa.clear()
        fb.clear({"E": packet(b"h", b"X-B\0yes\0") + packet(b"c")})
        fb.actions = ALL
        try:
            n = len(sink.messages)
            c = Sender(gate)
            c.begin(("plain@to.test", "other@to.test"))
            c.sock.sendall(stuff(content[:half]))
            assert wait_for(lambda: fb.commands().count("B") >= 3)
            c.sock.sendall(stuff(content[half:]))
            assert c.end().startswith("250 ")
            got = {m.rcpts[0]: without_trace(m.content)
                   for m in sink.wait(n + 2)[n:]}
        finally:
            fb.actions = QUARANTINE
    assert got["plain@to.test"] == content
    assert got["other@to.test"] == content.replace(
        b"\r\n\r\n", b"\r\nX-B: yes\r\n\r\n", 1)


def bdat(c, content):
    """In chunks of all sizes."""
    at, n = 0, 1
    while True:
        piece = content[at:at + n]
        at += n
        last = b" LAST" if at >= len(content) else b""
        c.sock.sendall(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
        got = c.reply()
        if last or not got.startswith("250"):
            return got
        n = n * 7 % 200003 + 1


REJECT, TEMPFAIL, DISCARD, ACCEPT = (packet(c) for c in (
    b"r", b"t", b"d", b"a"))
EDITS = (packet(b"h", b"X-New\0v\0") +
         packet(b"m", struct.pack(">I", 1) + b"X-Old\0new\0"))
SCRIPTS = [
    ({}, {}),
    ({"L": REJECT}, {}), ({"N": TEMPFAIL}, {}), ({("B", 2): DISCARD}, {}),
    ({}, {("B", 5): REJECT}), ({"E": REJECT}, {}), ({"L": ACCEPT}, {}),
    ({("B", 3): ACCEPT}, {"N": ACCEPT}), ({("B", 3): ACCEPT}, {"E": DISCARD}),
    ({("B", 4): "close"}, {}), ({}, {"E": "close"}),
    ({("B", 2): packet(b"Z")}, {}), ({"E": EDITS + packet(b"c")}, {}),
    ({"E": packet(b"q", b"held\0") + packet(b"c")}, {}),
    ({"E": packet(b"b", b"new body\r\n") + packet(b"c")}, {"E": TEMPFAIL}),
    ({"E": packet(b"b", b"new body\r\n") + packet(b"c")}, {"E": ACCEPT}),
]
MAILS = [(mail(400000), False), (mail(400000), True),
         (mail(1300000), False), (mail(330000, b"bare\nlf\r\n"), False),
         (mail(330000, b"y" * 70000 + b"\r\n"), False),
         (mail(2100000), False), (mail(300000), False)]


def outcome(gate, script, content, chunked, actions):
    """What came of one message, as text."""
    fa.clear(script[0]), fb.clear(script[1])
    fa.actions, fb.actions = actions
    n = len(sink.messages)
    c = Client(gate)
    c.say("EHLO client.test")
    c.say("MAIL FROM:<a@from.test>")
    c.say("RCPT TO:<r@to.test>")
    if chunked:
        got = bdat(c, content)
    else:
        c.say("DATA")
        c.sock.sendall(stuff(content) + b".\r\n")
        got = c.reply()
    c.close()
    words = got.split()
    queued = got.startswith("250 ") and len(words) > 2
    log = []
    if queued:
        assert wait_for(lambda: f"{words[2]}: " in gate.log_text())
        log = [line for line in gate.log_text().splitlines()
               if f"{words[2]}: " in line]
    arrived = b""
    if queued and "milter=" in log[0] and "discard" not in log[0] and \
            "held" not in " ".join(log):
        got_it = sink.wait(n + 1)
        arrived = (without_trace(got_it[n].content)
                   if len(got_it) > n else b"none")
    return re.sub(r"\b2\.0\.0 \S+", "2.0.0 ID", got), arrived


@tap.test("whole or streamed: the same replies and the same bytes")
def _():
    whole = gateway("stream-size = 2G message-size = 2M")
    parts = gateway("stream-size = 64K message-size = 2M")
    results = {"refused": 0, "queued": 0, "changed": 0}
    with whole, parts:
        for i, script in enumerate(SCRIPTS):
            for k, (content, chunked) in enumerate(MAILS):
                if i > 0 and (i + k) % 3 != 0:
                    continue
                edits = "E" in script[0] and i >= 12
                actions = (ALL if edits else QUARANTINE, QUARANTINE)
                one = outcome(whole, script, content, chunked, actions)
                two = outcome(parts, script, content, chunked, actions)
                assert one == two, (i, k, one[0], two[0], len(one[1]),
                                    len(two[1]))
                results["queued" if one[1] else "refused"] += 1
                results["changed"] += one[1] not in (b"", content)
    assert results["refused"] >= 15 and results["queued"] >= 10, results
    assert results["changed"] >= 3, results


tap.run()
