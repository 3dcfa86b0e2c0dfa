# SPDX-License-Identifier: ISC
"""rules - each condition and change of a rule, for recipients of one message

Filters "a" to "d" add a field each, so that the bytes at the sink tell which
of them a group's message has passed; "late" judges content only.
"""
import itertools
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, wait_for,  # noqa: E402
                     without_trace)
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: t\r\n\r\nhello\r\n"
CONTINUE = packet(b"c")
REFUSE = packet(b"y", b"550 5.7.1 no\0")


def add(name):
    return packet(b"h", b"X-" + name.encode() + b"\0yes\0")


class Filter(FakeMilter):
    def __init__(self, name):
        super().__init__()
        self.name = name
        self.plain()

    def plain(self):
        self.answers.clear()
        self.answers["E"] = add(self.name) + CONTINUE

    def shown(self):
        return [d.split(b"\0")[0].decode().strip("<>")
                for c, d in self.seen if c == b"R"]


FILTERS = {n: Filter(n) for n in ("a", "b", "c", "late")}
A, B, C, LATE = FILTERS.values()


def write(rules):
    with open(os.path.join(gate.dir, "local.conf"), "w") as f:
        f.write(f'policy "inbound" {{\n{rules}\n}}\n')


def reload(rules):
    write(rules)
    p = gate.ctl("reload")
    assert p.returncode == 0, p
    assert wait_for(gate.answers)  # lookup may have been renewed
    for f in FILTERS.values():
        f.plain()
        del f.seen[:]


sent = itertools.count(1)


def send(*rcpts, content=MAIL, sender="s@from.test"):
    """One message, marked so that it is found again; the last reply."""
    send.mark = b"Mark: %d\r\n" % next(sent)
    return Client(gate).send(send.mark + content, sender=sender,
                             rcpts=[r if "@" in r else r + "@t.test"
                                    for r in rcpts])


def arrived(count, mark=None):
    """The messages of the last send(), once they have count recipients."""
    mark = mark or send.mark

    def look():
        got = [m for m in sink.messages if mark in m.content]
        return got if sum(len(m.rcpts) for m in got) == count else None
    got = wait_for(look)
    assert got, mark
    return got


def fields(message):
    """"ab": which filters changed it; the rest is as it was sent."""
    got = without_trace(message.content)
    text = "".join(t.decode() for t in re.findall(
        rb"^X-(\w+): yes\r\n", got, re.M))
    return text, re.sub(rb"(?m)^X-\w+: yes\r\n", b"", got)


def passed(*rcpts, content=MAIL, sender="s@from.test"):
    """{recipient: which filters its copy has passed}"""
    got = send(*rcpts, content=content, sender=sender)
    assert got.startswith("250 "), got
    result = {}
    for m in arrived(len(rcpts)):
        text, rest = fields(m)
        assert rest == send.mark + content, rest
        result.update({r.replace("@t.test", ""): text for r in m.rcpts})
    return result


def held():
    return {q["recipients"][0]["address"]: q
            for q in gate.held()}


def record(ident):
    got = gate.ctl_json("explain", ident)
    return got[0] if isinstance(got, list) else got


def milter(told, name):
    return next(m for m in told["milters"] if m["name"] == name)


@tap.test("recipient and recipient domain")
def _():
    reload('rule "r" { recipient = {"Abuse@*", "!abuse@other.test"}'
           ' skip = {"a"} }\n'
           'rule "d" { recipient-domain = ".T.test" skip = {"b"} }\n'
           'rule "x" { recipient-domain = "other.test" skip = {"c"} }\n')
    assert passed("abuse", "x", "abuse@other.test", "x@other.test",
                  "y@elsewhere.test") == {
        "abuse": "c", "x": "ac", "abuse@other.test": "ab",
        "x@other.test": "ab", "y@elsewhere.test": "abc"}


@tap.test("size, for all recipients and for some")
def _():
    reload('rule "big" { size = ">10K" skip = {"a"} }\n'
           'rule "x" { size = ">10K" recipient = "x*@*" skip = {"b"} }\n')
    big = b"Subject: t\r\n\r\n" + b"y" * 70 * 200 + b"\r\n"
    assert passed("m", "x1") == {"m": "abc", "x1": "abc"}
    assert len(arrived(2)) == 2  # the rule might have fitted one of them
    A.seen.clear()
    assert passed("m", "x1", "x2", content=big) == \
        {"m": "bc", "x1": "c", "x2": "c"}
    assert "E" not in A.commands() and "L" not in A.commands(), A.commands()


@tap.test("header, as it came and not as a filter made it")
def _():
    reload('rule "list" { header = {"List-Id", "Precedence: bulk*"}'
           ' skip = {"b"} }\n'
           'rule "made" { header = "X-a" skip = {"c"} }\n')
    assert passed("m") == {"m": "abc"}
    assert passed("m", content=b"list-id: <l>\r\n" + MAIL) == {"m": "ac"}
    assert passed("m", content=b"Precedence:\r\n bulk!\r\n" + MAIL) == \
        {"m": "ac"}


@tap.test("a rule on the header adds a filter: told of the session from memory")
def _():
    reload('rule "list" { header = "List-Id" recipient = {"x*@*", "w@*"}'
           ' add = {"late before c"} }\n')
    content = b"List-Id: <l>\r\n" + MAIL
    assert passed("m", "x1", "x2") == {"m": "abc", "x1": "abc", "x2": "abc"}
    assert LATE.seen == []
    assert passed("m", "x1", "x2", content=content) == \
        {"m": "abc", "x1": "ablatec", "x2": "ablatec"}
    assert LATE.shown() == ["x1@t.test", "x2@t.test"], LATE.shown()
    assert LATE.commands().replace("D", "").startswith(
        "OCHMRRTLLLLLNB"), LATE.commands()
    LATE.answers["R"] = packet(b"a")  # accept: it has no more to say
    assert passed("x1", content=content) == {"x1": "abc"}
    LATE.answers["R"] = REFUSE  # too late for one recipient: its failure
    got = send("x1", content=content)
    assert got.startswith("451 4.7.1"), got
    LATE.plain()
    LATE.answers["M"] = REFUSE
    assert send("x1", content=content) == "550 5.7.1 no"


@tap.test("a filter that some have from the start, and others by the header")
def _():
    reload('rule "w" { recipient = {"w*@*"} add = {"late"} }\n'
           'rule "list" { header = "List-Id" recipient = {"x*@*"}'
           ' add = {"late"} }\n')
    content = b"List-Id: <l>\r\n" + MAIL
    assert passed("w1", "x1", "m", content=content) == \
        {"w1": "abclate", "x1": "abclate", "m": "abc"}
    assert sorted(LATE.shown()) == ["w1@t.test", "x1@t.test"], LATE.shown()
    assert LATE.commands().count("C") == 1, LATE.commands()


@tap.test("an earlier filter's verdict")
def _():
    reload('rule "ok" { verdict = "a=accept" skip = {"c"} }\n'
           'rule "q" { verdict = "a=quarantine" add = {"late"} }\n'
           'rule "f" { verdict = "b=failed" recipient = "x@*"'
           ' skip = {"c"} on-failure = {} }\n')
    assert passed("m") == {"m": "abc"}
    A.answers["E"] = add("a") + packet(b"a")
    n = C.commands().count("E")
    assert passed("m", "x") == {"m": "ab", "x": "ab"}
    assert C.commands().count("E") == n, C.commands()
    A.answers["E"] = add("a") + packet(b"q", b"held\0") + CONTINUE
    n = LATE.commands().count("E")
    got = send("m")
    assert got.startswith("250 "), got
    assert LATE.commands().count("E") == n + 1
    kept = held()["m@t.test"]
    assert kept["reason"] == "held", kept
    told = record(kept["id"])
    assert milter(told, "late")["rule"] == "q", told
    assert milter(told, "late")["rule_at"].endswith("local.conf:3"), told
    assert gate.ctl("queue", "delete", kept["id"]).returncode == 0
    reload('rule "b" { on-failure = {"b=accept"} }\n'
           'rule "f" { verdict = "b=failed" recipient = "x@*"'
           ' skip = {"c"} }\n')
    B.answers["E"] = "close"
    assert passed("m", "x") == {"m": "ac", "x": "a"}


@tap.test("tables: found, absent, with a pattern; replaced; unreadable")
def _():
    path = os.path.join(gate.dir, "tab/vip")
    os.mkdir(os.path.dirname(path), 0o755)

    def table(text):
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    table("boss@t.test yes\nfrom.test partner\n127.0.0.1 home\n")
    reload(f'rule "v" {{ table = "recipient text:{path}" skip = {{"a"}} }}\n'
           f'rule "s" {{ table = "sender-domain text:{path} part*"'
           ' skip = {"b"} }\n'
           f'rule "c" {{ table = "client text:{path} away" skip = {{"c"}} }}')
    assert passed("m", "Boss", sender="s@sub.from.test") == \
        {"m": "abc", "Boss": "bc"}
    assert passed("m", "boss") == {"m": "ac", "boss": "c"}
    table("127.0.0.1 away\n")
    assert wait_for(lambda: passed("boss") == {"boss": "ab"})
    os.remove(path)
    client = Client(gate)  # at CONNECT nobody is refused for it
    assert client.greeting.startswith("220 "), client.greeting
    assert wait_for(lambda: send("m").startswith("451 4.3.0"))
    log = gate.log_text()
    assert "vip" in log and "policy=inbound: no chain" in log, log
    table("x y\n")
    assert wait_for(lambda: not send("m").startswith("451"))
    assert passed("boss") == {"boss": "abc"}


@tap.test("a table of the content's rule: alike for a whole group")
def _():
    path = os.path.join(gate.dir, "tab/opt")
    with open(path, "w") as f:
        f.write("x1@t.test y\nx2@t.test y\n")
    reload('rule "t" { header = "List-Id" table = "recipient text:'
           f'{path}" skip = {{"b"}} }}\n')
    content = b"List-Id: <l>\r\n" + MAIL
    assert passed("m", "x1", "n", "x2", content=content) == \
        {"m": "abc", "x1": "ac", "n": "abc", "x2": "ac"}


@tap.test("the tables' process is away: tempfail within its time, and after it")
def _():
    path = os.path.join(gate.dir, "tab/opt")
    reload(f'rule "t" {{ table = "recipient text:{path}" skip = {{"b"}} }}\n')
    client = Client(gate)
    client.say("EHLO client.test")
    client.say("MAIL FROM:<s@from.test>")
    os.kill(gate.pid("lookup"), 9)
    begin = time.monotonic()
    got = client.say("RCPT TO:<x1@t.test>")
    assert got.startswith(("451 4.3.0", "250")), got
    assert time.monotonic() - begin < 20
    assert wait_for(lambda: send("x1").startswith("250 "))


@tap.test("the time of day")
def _():
    # a day before and a day after: no midnight comes between
    days = "mon tue wed thu fri sat sun".split()
    now = time.localtime().tm_wday
    reload('rule "t" { time = "%s-%s" skip = {"a"} }\n'
           'rule "u" { time = "%s" skip = {"b"} }\n' %
           (days[now - 1], days[(now + 1) % 7], days[(now + 3) % 7]))
    assert passed("m") == {"m": "bc"}


@tap.test("mode for some recipients: edits and verdict only for the others")
def _():
    reload('rule "m" {\n recipient = "x*@*"\n'
           ' mode = {"a=shadow", "b=off"}\n}\n')
    assert passed("m", "x1") == {"m": "abc", "x1": "c"}
    assert wait_for(lambda: A.shown() == ["m@t.test", "x1@t.test"])
    assert B.shown() == ["m@t.test"], B.shown()
    A.answers["E"] = REFUSE
    got = send("m", "x1")
    assert got.startswith("250 "), got
    assert arrived(1)[0].rcpts == ["x1@t.test"]
    told = record(got.split()[2] + "-2")
    assert milter(told, "a")["mode"] == "shadow" and \
        milter(told, "a")["mode_rule_at"].endswith("local.conf:4"), told
    assert milter(told, "b")["mode"] == "off", told
    assert told["policy"] == "inbound" and len(told["policy_hash"]) == 16
    assert gate.ctl("queue", "delete",
                    held()["m@t.test"]["id"]).returncode == 0


@tap.test("failure action and time limit for some recipients")
def _():
    reload('rule "f" { recipient = "x*@*" on-failure = {"a=accept"} }\n'
           'rule "q" { recipient = "q*@*" on-failure = {"a=quarantine"} }\n')
    A.answers["E"] = "close"
    got = send("m", "x1", "q1")  # m's milter failed: held among accepted ones
    assert got.startswith("250 "), got
    assert arrived(1)[0].rcpts == ["x1@t.test"]
    kept = held()
    assert sorted(kept) == ["m@t.test", "q1@t.test"], kept
    assert "milter a failed" in kept["q1@t.test"]["reason"], kept
    for q in kept.values():
        gate.ctl("queue", "delete", q["id"])
    reload('rule "t" { recipient = "x*@*" on-failure = {"a=accept"}'
           ' timeout = {"a.command=200ms"} }\n')
    A.answers["R"] = None
    begin = time.monotonic()
    got = send("x1")
    assert got.startswith("250 "), got
    assert time.monotonic() - begin < 15  # the milter's own is 30 s


@tap.test("an early verdict waits for the recipients whose chain has the filter")
def _():
    write('rule "x" { recipient = "x*@*" skip = {"a"} }\n')
    with open(os.path.join(gate.dir, "local.conf"), "a") as f:
        f.write('milter "a" { early = yes }\n')
    assert gate.ctl("reload").returncode == 0
    for step in "CHM":
        A.answers[step] = packet(b"y", b"450 4.7.1 not yet\0")
        c = Client(gate)
        assert c.greeting.startswith("220 "), c.greeting
        assert c.say("EHLO client.test").startswith("250")
        assert c.say("MAIL FROM:<s@from.test>").startswith("250 ")
        assert c.say("RCPT TO:<m@t.test>") == "450 4.7.1 not yet", step
        assert c.say("RCPT TO:<x1@t.test>").startswith("250 ")
        c.close()
        A.plain()
    # a rule on the sender is open at CONNECT, and decided at MAIL
    with open(os.path.join(gate.dir, "local.conf"), "w") as f:
        f.write('milter "a" { early = yes }\npolicy "inbound" {'
                'rule "s" { sender = "ok@*" skip = {"a"} } }\n')
    assert gate.ctl("reload").returncode == 0
    A.answers["C"] = REFUSE
    assert passed("m", sender="ok@from.test") == {"m": "bc"}
    assert send("m") == "550 5.7.1 no"
    # no rule can skip it: at once
    with open(os.path.join(gate.dir, "local.conf"), "w") as f:
        f.write('milter "a" { early = yes }\npolicy "inbound" {'
                'rule "s" { client = "192.0.2.1" skip = {"a"} } }\n')
    assert gate.ctl("reload").returncode == 0
    assert Client(gate).greeting == "550 5.7.1 no"


@tap.test("the other way round is sent by itself; many kinds at once")
def _():
    reload('rule "r" { recipient = "x*@*" chain = {"c", "b", "a"} }\n'
           'rule "y" { recipient = "y*@*" chain = {"b", "late"} }\n')
    c = Client(gate)
    c.say("EHLO client.test")
    c.say("MAIL FROM:<s@from.test>")
    assert c.say("RCPT TO:<m@t.test>").startswith("250 ")
    assert c.say("RCPT TO:<y1@t.test>").startswith("250 ")
    got = c.say("RCPT TO:<x1@t.test>")
    assert got.startswith("452 4.5.3"), got
    c.say("RSET")
    assert passed("x1") == {"x1": "cba"}
    assert passed("y1", "m") == {"y1": "blate", "m": "abc"}


@tap.test("first match with rules on recipient and content")
def _():
    reload('match = "first"\n'
           'rule "1" { header = "List-Id" skip = {"a"} }\n'
           'rule "2" { size = ">1" recipient = "x@*" skip = {"b"} }\n'
           'rule "3" { recipient = "x@*" skip = {"c"} }\n'
           'rule "4" { sender = "s@*" add = {"late"} }\n')
    assert passed("m", "x") == {"m": "abclate", "x": "a"}
    assert passed("m", "x", content=b"List-Id: l\r\n" + MAIL) == \
        {"m": "bclate", "x": "b"}


@tap.test("1,000 recipients by tables in three groups, two messages, RSET between")
def _():
    path = os.path.join(gate.dir, "tab/opt")
    with open(path + ".new", "w") as f:
        f.writelines(f"r{i}@t.test {i % 3}\n" for i in range(1000))
    os.rename(path + ".new", path)
    reload(f'rule "1" {{ table = "recipient text:{path} 1" skip = {{"a"}} }}\n'
           f'rule "2" {{ table = "recipient text:{path} 2"'
           ' skip = {"b", "c"} }\n')
    want = {f"r{i}": ("abc", "bc", "a")[i % 3] for i in range(1000)}
    names = list(want)
    wait_for(lambda: passed("r2") == {"r2": "a"})
    c = Client(gate)
    c.say("EHLO client.test")
    for last in ("MAIL", "RCPT"):
        c.say("MAIL FROM:<s@from.test>")
        if last == "RCPT":
            assert c.say("RCPT TO:<r1@t.test>").startswith("250 ")
        assert c.say("RSET").startswith("250 ")
    c.close()
    for _ in range(2):
        assert passed(*names) == want



gate = Gateway(
    sink.port, chain=("access", "a", "b", "c"),
    extra='include "local*.conf"\n',
    milters="".join(
        f'milter "{n}" {{ endpoints = {{"{f.endpoint()}"}} %s }}\n' %
        ("content = yes" if n == "late" else "")
        for n, f in FILTERS.items()),
    files={"local.conf": "# nothing yet\n"})
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
