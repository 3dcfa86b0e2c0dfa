# SPDX-License-Identifier: ISC
"""groups - recipients with chains of their own: one message, n groups

Three filters with different edits; the recipient's name says which of them
its chain has: "a" only the first, "bc" the other two, "abc" all.
"""
import os
import signal
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, wait_for,  # noqa: E402
                     without_trace)
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: t\r\n\r\nhello\r\n"
CONTINUE = packet(b"c")


def add(name, value):
    return packet(b"h", name + b"\0" + value + b"\0")


def body(text):
    return packet(b"b", text)


class Filter(FakeMilter):
    """Keeps each session's commands apart."""

    def __init__(self, edits):
        self.edits = edits
        self.sessions = []
        self.local = threading.local()
        self.refuse = {}
        super().__init__({"E": lambda conn: self.edits + CONTINUE})

    def _session(self, conn):
        mine = []
        self.sessions.append(mine)
        outer = self

        class Seen:
            def append(self, item):
                mine.append(item)
        # each session runs in a thread with a view of its own
        shell = object.__new__(FakeMilter)
        shell.answers = outer.answers
        shell.seen = Seen()
        FakeMilter._session(shell, conn)

    def shown(self):
        """[[recipients of a session], ...] and the rest of what it saw."""
        return [[d.split(b"\0")[0].decode().strip("<>")
                 for c, d in list(s) if c == b"R"] for s in self.sessions]

    def letters(self):
        return ["".join(c.decode() for c, _ in list(s) if c not in b"OD")
                for s in self.sessions]

    def clear(self):
        del self.sessions[:]


fa = Filter(add(b"X-A", b"1"))
fb = Filter(body(b"from b\r\n"))
fc = Filter(add(b"X-C", b"3"))
FILTERS = (fa, fb, fc)
RULES = """policy "inbound" {
    rule "a"  { recipient = {"a@*", "a-*@*"}   skip = {"b", "c"} }
    rule "bc" { recipient = {"bc@*", "bc-*@*"} skip = {"a"} }
    %s
}
"""
WANT = {
    "a": b"Subject: t\r\nX-A: 1\r\n\r\nhello\r\n",
    "bc": b"Subject: t\r\nX-C: 3\r\n\r\nfrom b\r\n",
    "abc": b"Subject: t\r\nX-A: 1\r\nX-C: 3\r\n\r\nfrom b\r\n",
}


def gateway(more="", **kw):
    milters = "".join(
        'milter "%s" { endpoints = {"%s"} %s }\n' % (
            name, f.endpoint(), kw.pop(name, ""))
        for name, f in zip("abc", FILTERS))
    return Gateway(sink.port, chain=("access", "a", "b", "c"),
                   milters=milters, extra=RULES % more, **kw)


def kind(address):
    return address.split("@")[0].split("-")[0]


def check(messages):
    """Each message has recipients of one kind, and its exact bytes."""
    for m in messages:
        kinds = {kind(r) for r in m.rcpts}
        assert len(kinds) == 1, m.rcpts
        assert without_trace(m.content) == WANT[kinds.pop()], m.content


def fresh():
    for f in FILTERS:
        f.clear()
    return len(sink.messages)


def arrived(n, more):
    got = sink.wait(n + more)[n:]
    assert len(got) == more, len(got)
    return got


@tap.test("three chains, different edits: exact bytes for each group")
def _():
    n = fresh()
    got = Client(gate).send(MAIL, rcpts=["a@t.test", "bc@t.test",
                                         "abc@t.test", "a-2@t.test"])
    assert got.startswith("250 "), got
    check(arrived(n, 3))
    ident = got.split()[2]
    assert wait_for(lambda: all(
        f"{ident}{s}: from=" in gate.log_text() for s in ("", "-2", "-3")))


@tap.test("each recipient once; again only for another version")
def _():
    n = fresh()
    c = Client(gate)
    c.send(MAIL, rcpts=["a@t.test", "bc@t.test", "abc@t.test"])
    c.close()
    arrived(n, 3)
    assert fa.shown() == [["a@t.test", "abc@t.test"]], fa.shown()
    assert fb.shown() == [["bc@t.test", "abc@t.test"], ["abc@t.test"]], \
        fb.shown()
    assert fc.shown() == [["bc@t.test", "abc@t.test"], ["abc@t.test"]], \
        fc.shown()
    replay = next(d for x, d in fb.sessions[1]
                  if x == b"D" and d[:1] == b"M")
    assert b"{milldam_replay}\x001\0" in replay, replay


@tap.test("one version: a filter runs once for all of its recipients")
def _():
    n = fresh()
    Client(gate).send(MAIL, rcpts=["bc@t.test", "bc-2@t.test"])
    (m,) = arrived(n, 1)
    check([m])
    assert m.rcpts == ["bc@t.test", "bc-2@t.test"], m.rcpts
    assert fa.sessions == [] or fa.shown() == [[]], fa.shown()
    assert [len(x) for x in fb.shown()] == [2], fb.shown()


@tap.test("1000 recipients in three groups")
def _():
    n = fresh()
    names = ["%s-%d@t.test" % (("a", "bc", "abc")[i % 3], i)
             for i in range(1000)]
    got = Client(gate).send(MAIL, rcpts=names)
    assert got.startswith("250 "), got
    want = sorted(names)
    assert wait_for(lambda: sorted(
        r for m in sink.messages[n:] for r in m.rcpts) == want)
    check(sink.messages[n:])


@tap.test("RSET between all stages, then two messages in the session")
def _():
    n = fresh()
    c = Client(gate)
    c.say("EHLO client.test")
    steps = ["MAIL FROM:<s@from.test>", "RCPT TO:<a@t.test>",
             "RCPT TO:<bc@t.test>", "RCPT TO:<abc@t.test>"]
    for k in range(len(steps) + 1):
        for step in steps[:k]:
            assert c.say(step).startswith("250 "), step
        assert c.say("RSET").startswith("250 ")
    for _ in range(2):
        got = c.send(MAIL, rcpts=["abc@t.test", "a@t.test", "bc@t.test"],
                     ehlo=False)
        assert got.startswith("250 "), got
    c.close()
    check(arrived(n, 6))


@tap.test("large bodies: in a memory file, in a file of the queue")
def _():
    for size in (200_000, 6_000_000):
        n = fresh()
        text = (b"x" * 70 + b"\r\n") * (size // 72)
        got = Client(gate).send(b"Subject: t\r\n\r\n" + text,
                                rcpts=["a@t.test", "bc@t.test", "a-2@x.test"])
        assert got.startswith("250 "), got
        for m in arrived(n, 2):
            want = WANT[kind(m.rcpts[0])].replace(b"hello\r\n", text)
            assert without_trace(m.content) == want, len(m.content)


@tap.test("a group refused while another is accepted is held")
def _():
    n = fresh()
    fb.answers["E"] = packet(b"y", b"550 5.7.1 not for you\0")
    try:
        got = Client(gate).send(MAIL, rcpts=["a@t.test", "bc@t.test"])
    finally:
        fb.answers["E"] = lambda conn: fb.edits + CONTINUE
    assert got.startswith("250 "), got
    check(arrived(n, 1))
    (held,) = gate.held()
    assert held["id"] == got.split()[2] + "-2", held
    assert held["state"] == "held" and "not for you" in held["reason"], held
    told = gate.ctl_json("explain", held["id"])
    told = told[0] if isinstance(told, list) else told
    assert told["group"] == 2 and told["outcome"] == "held", told
    assert [(m["name"], m["mode"] == "skipped") for m in told["milters"]] == \
        [("access", False), ("a", True), ("b", False), ("c", False)], told
    assert gate.ctl("queue", "delete", held["id"]).returncode == 0


@tap.test("all groups refused: the client is told")
def _():
    n = fresh()
    for f in (fa, fb):
        f.answers["E"] = packet(b"y", b"550 5.7.1 no\0")
    try:
        got = Client(gate).send(MAIL, rcpts=["a@t.test", "bc@t.test"])
    finally:
        for f in (fa, fb):
            f.answers["E"] = lambda conn, f=f: f.edits + CONTINUE
    assert got == "550 5.7.1 no", got
    assert gate.ctl_json("queue", "list") == [] and len(sink.messages) == n


@tap.test("a filter that some skip refuses MAIL: its recipients hear of it")
def _():
    n = fresh()
    with gateway(a="early = yes") as g:
        fa.answers["M"] = packet(b"r")
        try:
            c = Client(g)
            c.say("EHLO client.test")
            assert c.say("MAIL FROM:<s@from.test>").startswith("250 ")
            got = c.say("RCPT TO:<a@t.test>")
            assert got.startswith("550 5.7.1"), got
            assert c.say("RCPT TO:<bc@t.test>").startswith("250 ")
            c.say("RSET")
            assert c.send(MAIL, rcpts=["bc@t.test", "abc@t.test"],
                          ehlo=False).startswith("250 ")
        finally:
            del fa.answers["M"]
        check(arrived(n, 1))


@tap.test("the same at CONNECT and HELO, for every message of the session")
def _():
    for step in "CH":
        n = fresh()
        with gateway(a="early = yes") as g:
            fa.answers[step] = packet(b"y", b"450 4.7.1 not yet\0")
            try:
                c = Client(g)
                assert c.greeting.startswith("220 "), c.greeting
                assert c.say("EHLO client.test").startswith("250")
                for _ in range(2):
                    c.say("MAIL FROM:<s@from.test>")
                    got = c.say("RCPT TO:<abc@t.test>")
                    assert got == "450 4.7.1 not yet", (step, got)
                    c.say("RSET")
                    got = c.send(MAIL, ehlo=False,
                                 rcpts=["a@t.test", "bc@t.test"])
                    assert got.startswith("250 "), got
            finally:
                del fa.answers[step]
            check(arrived(n, 2))


@tap.test("its discard at MAIL, RCPT or DATA drops its own groups only")
def _():
    for step in "MRT":
        n = fresh()
        with gateway(a="early = yes") as g:
            fa.answers[step] = packet(b"d")
            try:
                got = Client(g).send(MAIL, rcpts=["abc@t.test", "bc@t.test"])
            finally:
                del fa.answers[step]
            assert got.startswith("250 "), (step, got)
            (m,) = arrived(n, 1)
            check([m])
            assert m.rcpts == ["bc@t.test"], (step, m.rcpts)
            (told,) = [t for t in g.ctl_json("explain", got.split()[2])
                       if t["id"] == got.split()[2]]
            assert told["outcome"] == "discarded", (step, told)
            assert told["recipients"] == ["abc@t.test"], told


@tap.test("a further session that answers RCPT otherwise has failed")
def _():
    n = fresh()
    seen = []

    def again(conn):
        seen.append(1)
        return packet(b"t" if len(seen) == 3 else b"c")

    with gateway(c="on-failure = quarantine") as g:
        fc.answers["R"] = again
        try:
            got = Client(g).send(MAIL, rcpts=["bc@t.test", "abc@t.test"])
        finally:
            del fc.answers["R"]
        assert got.startswith("250 "), got
        check(arrived(n, 1))
        (held,) = g.held()
        assert "otherwise than the first time" in held["reason"], held


@tap.test("mixed = separate: who has another chain is sent by itself")
def _():
    n = fresh()
    with gateway("mixed = separate") as g:
        c = Client(g)
        c.say("EHLO client.test")
        c.say("MAIL FROM:<s@from.test>")
        assert c.say("RCPT TO:<a@t.test>").startswith("250 ")
        assert c.say("RCPT TO:<bc@t.test>").startswith("452 4.5.3")
        assert c.say("RCPT TO:<a-2@t.test>").startswith("250 ")
        c.say("DATA")
        c.sock.sendall(MAIL + b".\r\n")
        assert c.reply().startswith("250 ")
        got = c.send(MAIL, rcpts=["bc@t.test"], ehlo=False)
        assert got.startswith("250 "), got
        check(arrived(n, 2))


@tap.test("PRDR: each recipient has its own reply")
def _():
    n = fresh()
    assert Client(gate).say("EHLO x.test").find("PRDR") == -1
    c = Client(gate)
    c.say("EHLO x.test")
    assert c.say("MAIL FROM:<s@from.test> PRDR").startswith("555 ")
    with gateway("prdr = yes") as g:
        c = Client(g)
        assert "250-PRDR" in c.say("EHLO x.test").split("\n")
        fb.answers["E"] = packet(b"y", b"550 5.7.1 not for you\0")
        try:
            c.say("MAIL FROM:<s@from.test> PRDR")
            for r in ("bc@t.test", "a@t.test", "bc-2@t.test"):
                assert c.say(f"RCPT TO:<{r}>").startswith("250 ")
            c.say("DATA")
            c.sock.sendall(MAIL + b".\r\n")
            got = [c.reply() for _ in range(5)]
        finally:
            fb.answers["E"] = lambda conn: fb.edits + CONTINUE
        assert [x[:3] for x in got] == ["353", "550", "250", "550", "250"], got
        assert got[1] == "550 5.7.1 not for you", got
        check(arrived(n, 1))
        assert g.ctl_json("queue", "list") == []
        got = c.send(MAIL, ehlo=False, rcpts=["a@t.test"])
        assert got.startswith("250 "), got


@tap.test("on-mixed: discard; bounce, to our own clients only")
def _():
    for more, n_sink in (("on-mixed = discard", 1),
                         ('rule "in" { client = {"127.0.0.0/8"} '
                          'on-mixed = bounce }', 2)):
        n = fresh()
        with gateway(more) as g:
            fb.answers["E"] = packet(b"y", b"550 5.7.1 not for you\0")
            try:
                got = Client(g).send(MAIL, rcpts=["a@t.test", "bc@t.test"])
            finally:
                fb.answers["E"] = lambda conn: fb.edits + CONTINUE
            assert got.startswith("250 "), got
            seen = arrived(n, n_sink)
            assert wait_for(lambda: g.ctl_json("queue", "list") == [])
            if n_sink == 2:
                (b,) = [m for m in seen if m.sender == ""]
                assert b"not for you" in b.content, b.content
                assert b.rcpts == ["a@from.test"], b.rcpts


@tap.test("kill -9 at any time: each message has all of its groups or none")
def _():
    import re
    with gateway() as g:
        base = fresh()
        acked = []
        tried = [0]
        stop = threading.Event()
        lock = threading.Lock()

        def run():
            while not stop.is_set():
                try:
                    c = Client(g)
                    if not c.greeting.startswith("220"):
                        stop.wait(0.05)
                        continue
                    c.say("EHLO load.test")
                    while not stop.is_set():
                        with lock:
                            tried[0] += 1
                            k = tried[0]
                        got = c.send(b"Subject: t\r\nX-N: id-%d.\r\n\r\nx\r\n"
                                     % k, ehlo=False, rcpts=[
                                         "a@t.test", "bc@t.test",
                                         "abc@t.test"])
                        if got.startswith("250 "):
                            with lock:
                                acked.append(k)
                        elif not got.startswith("4"):
                            break
                except (OSError, AssertionError):
                    stop.wait(0.05)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for t in threads:
            t.start()
        for turn in range(int(os.environ.get("MILLDAM_KILL_ROUNDS", "6"))):
            stop.wait(0.7)
            for p in g.ctl_json("status")["processes"]:
                if p["name"] == ("queue.0", "receiver.0")[turn % 2]:
                    os.kill(p["pid"], signal.SIGKILL)
        stop.wait(1)
        stop.set()
        for t in threads:
            t.join(70)

        def kinds():
            seen = {}
            for m in sink.messages[base:]:
                k = int(re.search(rb"id-(\d+)\.", m.content)[1])
                seen.setdefault(k, set()).add(kind(m.rcpts[0]))
            return seen

        assert wait_for(lambda: g.ctl_json("queue", "list") == [], 60)
        seen = kinds()
        half = {k: v for k, v in seen.items() if len(v) != 3}
        lost = [k for k in acked if k not in seen]
        print(f"# {tried[0]} tried, {len(acked)} acknowledged")
        assert len(acked) > 20 and half == {} and lost == [], (half, lost)


with gateway() as gate:
    tap.run()
