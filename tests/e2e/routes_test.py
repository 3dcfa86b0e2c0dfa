# SPDX-License-Identifier: ISC
"""routes - mailertable, smart host and MX records, through the gateway"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, free_port, wait_for  # noqa: E402
from nameserver import NameServer  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
MAIL = b"From: <a@from.test>\r\nSubject: r\r\n\r\nroute me\r\n"
PORT = free_port()  # of all next hops, so that only addresses differ
one = Sink("127.0.0.1", port=PORT)
two = Sink("127.0.0.2", port=PORT)
three = Sink("127.0.0.3", port=PORT)
six = Sink("::1", port=PORT)
SINKS = [one, two, three, six]
TABLE = f"""# a comment
domain.test     smtp:[127.0.0.2]:{PORT}
.domain.test    smtp:[127.0.0.3]:{PORT}
six.test        smtp:[IPv6:::1]:{PORT}
upper.test      SMTP:[127.0.0.2]:{PORT}
esmtp.test      esmtp:[127.0.0.2]:{PORT}
relay.test      relay:[127.0.0.2]:{PORT}
named.test      smtp:[two.hosts.test]:{PORT}
mx.test         smtp:pool.test:{PORT}
gone.test       error:5.7.1:550 We do not talk to gone.test
later.test      error:4.2.1:451 come back tomorrow
word.test       error:nohost
sink.test       discard:
wrong.test      smtp:[not closed
.               smtp:[127.0.0.1]:{PORT}
"""
RECORDS = {
    ("two.hosts.test", "A"): ["127.0.0.2"],
    ("pool.test", "MX"): [(20, "b.pool.test"), (10, "a.pool.test")],
    ("a.pool.test", "A"): ["127.0.0.2"],
    ("b.pool.test", "A"): ["127.0.0.3"],
    ("deadmx.test", "MX"): [(10, "dead.test"), (20, "b.pool.test")],
    ("dead.test", "A"): ["127.0.0.9"],
    ("null.test", "MX"): [(0, "")],
    ("own.test", "MX"): [(10, "a.pool.test"), (20, "gate.test"),
                         (30, "b.pool.test")],
    ("alias.test", "MX"): [(10, "other-name.test"), (20, "b.pool.test")],
    ("equal.test", "MX"): [(10, "a.pool.test"), (10, "b.pool.test")],
    ("nomx.test", "A"): ["127.0.0.3"],
    ("servfail.test", "MX"): "SERVFAIL",
    ("aaaa.test", "AAAA"): ["::1"],
}
dns = NameServer(RECORDS)


def route(table):
    return (f'mailertable = "{table}" names = {{ "other-name.test" }} '
            f'nameservers = {{ "{dns.address()}" }} hosts = "DIR/hosts"')


def arrives(gate, rcpt, sink):
    """One message to rcpt comes out at sink and nowhere else."""
    before = [len(s.messages) for s in SINKS]
    got = Client(gate).send(MAIL, rcpts=[rcpt])
    assert got.startswith("250 "), (rcpt, got)
    n = before[SINKS.index(sink)]
    msgs = sink.wait(n + 1, 10)
    assert len(msgs) == n + 1, (rcpt, gate.ctl("queue", "list").stdout)
    assert msgs[-1].rcpts == [rcpt], msgs[-1].rcpts
    time.sleep(0.1)
    after = [len(s.messages) for s in SINKS]
    assert sum(after) == sum(before) + 1, (before, after)


def bounce_of(gate, rcpt):
    """The report that comes back to a@from.test, at the "." route."""
    n = len(one.messages)
    got = Client(gate).send(MAIL, rcpts=[rcpt])
    assert got.startswith("250 "), (rcpt, got)
    msgs = one.wait(n + 1, 10)
    assert len(msgs) == n + 1, (rcpt, gate.ctl("queue", "list").stdout)
    assert msgs[-1].sender == "" and msgs[-1].rcpts == ["a@from.test"]
    return msgs[-1].content


def waits(gate, rcpt):
    """The message stays in the queue; its reason."""
    got = Client(gate).send(MAIL, rcpts=[rcpt])
    assert got.startswith("250 "), (rcpt, got)

    def listed():
        return [m for m in gate.ctl_json("queue", "list")
                if m["recipients"][0]["address"] == rcpt and m["reason"]]
    found = wait_for(listed, 10)
    assert found, gate.ctl("queue", "list").stdout
    return found[0]["reason"]


def check_table(gate):
    arrives(gate, "x@domain.test", two)
    arrives(gate, "x@DOMAIN.test", two)
    arrives(gate, "x@sub.domain.test", three)
    arrives(gate, "x@deep.sub.domain.test", three)
    arrives(gate, "x@six.test", six)
    arrives(gate, "x@upper.test", two)
    arrives(gate, "x@esmtp.test", two)
    arrives(gate, "x@relay.test", two)
    arrives(gate, "x@named.test", two)
    arrives(gate, "x@mx.test", two)
    arrives(gate, "x@anything.else.test", one)
    c = Client(gate)
    c.say("EHLO client.test")
    c.say("MAIL FROM:<a@from.test>")
    for rcpt, want in (
            ("x@gone.test", "550 5.7.1 We do not talk to gone.test"),
            ("x@later.test", "451 4.2.1 come back tomorrow"),
            ("x@word.test", "550 5.1.2 "), ("x@wrong.test", "451 4.3.0 ")):
        got = c.say(f"RCPT TO:<{rcpt}>")
        assert got.startswith(want), (rcpt, got)
    c.close()
    before = sum(len(s.messages) for s in SINKS)
    got = Client(gate).send(MAIL, rcpts=["x@sink.test"])
    assert got.startswith("250 "), got
    assert wait_for(lambda: gate.ctl_json("queue", "list") == [], 10)
    assert "mailer=discard" in gate.log_text()
    assert sum(len(s.messages) for s in SINKS) == before


@tap.test("each form of the mailertable, as plain text")
def _():
    with Gateway(None, files={"table": TABLE, "hosts": ""},
                 route=route("text:DIR/table")) as gate:
        check_table(gate)


for kind in ("hash", "btree"):
    @tap.test(f"each form of the mailertable, in Berkeley DB {kind}")
    def _(kind=kind):
        gate = Gateway(None, files={"hosts": ""},
                       route=route(f"{kind}:DIR/table"))
        pairs = [line.split(None, 1) for line in TABLE.splitlines()
                 if line and line[0] != "#"]
        subprocess.run(
            ["db5.3_load", "-T", "-t", kind, gate.dir + "/table.db"],
            input="".join(f"{k}\n{v}\n" for k, v in pairs), text=True,
            check=True, timeout=20)
        with gate:
            check_table(gate)


@tap.test("a changed table holds for the next message, without a reload")
def _():
    with Gateway(None, files={"table": TABLE, "hosts": ""},
                 route=route("text:DIR/table")) as gate:
        arrives(gate, "x@new.test", one)
        with open(gate.dir + "/table.new", "w") as f:
            f.write(f"new.test smtp:[127.0.0.3]:{PORT}\n" + TABLE)
        os.rename(gate.dir + "/table.new", gate.dir + "/table")

        def moved():
            n = len(three.messages)
            Client(gate).send(MAIL, rcpts=["x@new.test"])
            return len(three.wait(n + 1, 2)) > n
        assert wait_for(moved, 10)


MX_TABLE = "".join(
    f"{d}.to.test smtp:{d}.test:{PORT}\n"
    for d in ("pool", "deadmx", "null", "own", "alias", "equal", "nomx",
              "servfail", "aaaa", "nxdomain")) + \
    f"from.test smtp:[127.0.0.1]:{PORT}\n"


@tap.test("MX: preference, a dead exchanger, A and AAAA without MX")
def _():
    with Gateway(None, files={"table": MX_TABLE, "hosts": ""},
                 route=route("text:DIR/table")) as gate:
        arrives(gate, "x@pool.to.test", two)
        arrives(gate, "x@deadmx.to.test", three)
        arrives(gate, "x@nomx.to.test", three)
        arrives(gate, "x@aaaa.to.test", six)


@tap.test("MX: own name and what is not better are left out")
def _():
    with Gateway(None, files={"table": MX_TABLE, "hosts": ""},
                 route=route("text:DIR/table"),
                 extra="relay { idle-time = 0s }") as gate:
        arrives(gate, "x@own.to.test", two)
        two.on = {"CONNECT": "421 4.3.2 not now"}
        try:
            reason = waits(gate, "y@own.to.test")
        finally:
            two.on = {}
        assert "not now" in reason, reason
        assert not any(m.rcpts == ["y@own.to.test"] for m in three.messages)
        report = bounce_of(gate, "x@alias.to.test")
        assert b"Status: 5.4.6" in report, report


@tap.test("MX: a null MX and a domain that is not there bounce at once")
def _():
    with Gateway(None, files={"table": MX_TABLE, "hosts": ""},
                 route=route("text:DIR/table")) as gate:
        assert b"Status: 5.1.10" in bounce_of(gate, "x@null.to.test")
        assert b"Status: 5.1.2" in bounce_of(gate, "x@nxdomain.to.test")


@tap.test("MX: a name server that fails is a reason to wait")
def _():
    with Gateway(None, files={"table": MX_TABLE, "hosts": ""},
                 route=route("text:DIR/table")) as gate:
        reason = waits(gate, "x@servfail.to.test")
        assert reason.startswith("451 4.4.3"), reason


@tap.test("MX: equal preference shares the load at random")
def _():
    with Gateway(None, files={"table": MX_TABLE, "hosts": ""},
                 route=route("text:DIR/table"),
                 extra="relay { idle-time = 0s }") as gate:
        n2, n3 = len(two.messages), len(three.messages)
        c = Client(gate)
        c.say("EHLO client.test")
        for _ in range(40):
            assert c.send(MAIL, rcpts=["x@equal.to.test"],
                          ehlo=False).startswith("250 ")
        assert wait_for(lambda: len(two.messages) - n2 +
                        len(three.messages) - n3 == 40, 20)
        assert len(two.messages) - n2 >= 5
        assert len(three.messages) - n3 >= 5


@tap.test("smart host by MX and by name; the hosts file names a client")
def _():
    hosts = "127.0.0.1 client.hosts.test\n127.0.0.2 four.test\n"
    for smart, sink in ((f"smtp:pool.test:{PORT}", two),
                        (f"smtp:[four.test]:{PORT}", two)):
        with Gateway(None, files={"hosts": hosts},
                     route=f'smart-host = "{smart}" nameservers = '
                     f'{{ "{dns.address()}" }} hosts = "DIR/hosts"') as gate:
            arrives(gate, "x@any.test", sink)
            assert b"(client.hosts.test [127.0.0.1])" in \
                sink.messages[-1].content, sink.messages[-1].content
    asked = [name for name, _ in dns.asked]
    assert "four.test" not in asked and "pool.test" in asked


try:
    tap.run()
finally:
    for s in SINKS:
        s.close()
    dns.close()
