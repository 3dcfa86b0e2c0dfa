# SPDX-License-Identifier: ISC
# slow
"""trouble - milters that die or lie, a full disk, an unreadable table"""
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Gateway, Tap, wait_for, without_trace  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
MAIL = b"Subject: t\r\n\r\nx\r\n"
STAGES = {"O": "negotiation", "C": "connect", "H": "helo", "M": "mail",
          "R": "rcpt", "T": "data", "L": "header", "N": "end of header",
          "B": "body", "E": "end of message"}
LIES = {
    "dies": "close",
    "is silent": None,
    "sends a length of 4 GB": struct.pack(">I", 0xffffffff) + b"c",
    "sends a length of 0": struct.pack(">I", 0),
    "sends an unknown reply": packet(b"?"),
    "sends a reply code of no digits": packet(b"y", b"abc what\0"),
    "sends a reply code of 250": packet(b"y", b"250 fine\0"),
    "edits a header of index 4 billion": packet(
        b"m", struct.pack(">I", 0xffffffff) + b"X\0y\0") + packet(b"?"),
}


def arrived():
    """What clients sent; notices to postmaster have the null sender."""
    return [m for m in sink.messages if m.sender]


def reports(gate):
    return [p["restarts"] for p in gate.ctl_json("status")["processes"]
            if not p["name"].startswith("milter")]


def gateway(fake, action):
    return Gateway(sink.port, chain=("access", "fake"), milters='milter '
                   f'"fake" {{ endpoints = {{ "{fake.endpoint()}" }} '
                   f'on-failure = {action} '
                   'timeout = { "command=300ms" "message=1s" } }')


sink = Sink()
for action, want in (("tempfail", "451"), ("accept", "250 ")):
    @tap.test(f"a milter that lies at any step: on-failure = {action}")
    def _(action=action, want=want):
        fake = FakeMilter()
        with gateway(fake, action) as gate:
            for what, lie in LIES.items():
                for stage, name in STAGES.items():
                    n = len(arrived())
                    fake.answers = {stage: lie}
                    c = Client(gate)
                    got = c.send(MAIL)
                    c.close()
                    assert got.startswith(want), (what, name, got)
                    if action == "accept":
                        assert wait_for(lambda: len(arrived()) > n), \
                            (what, name)
                        got = arrived()[-1].content
                        assert without_trace(got) == MAIL, \
                            (what, name)
            fake.answers = {}
            n = len(arrived())
            assert Client(gate).send(MAIL).startswith("250 ")
            assert wait_for(lambda: len(arrived()) > n)
            assert not any(reports(gate)), "a process ended"
            log = gate.log_text()
            assert "fake" in log
        fake.close()


@tap.test("on-failure = quarantine holds the message with its reason")
def _():
    fake = FakeMilter({"E": "close"})
    with gateway(fake, "quarantine") as gate:
        n = len(sink.messages)
        got = Client(gate).send(MAIL)
        assert got.startswith("250 "), got
        listed = wait_for(lambda: gate.ctl_json("queue", "list"))
        assert len(listed) == 1 and listed[0]["state"] == "held", listed
        assert listed[0]["hold_by"] == "fake", listed
        assert len(sink.messages) == n
        shown = gate.ctl_json("queue", "show", listed[0]["id"])
        assert "Subject: t" in shown["header"], shown
        p = gate.ctl("quarantine", "release", listed[0]["id"])
        assert p.returncode == 0, p
        assert len(sink.wait(n + 1)) == n + 1
    fake.close()


@tap.test("a milter's quarantine holds; delete forgets the message for good")
def _():
    fake = FakeMilter({"E": packet(b"q", b"looks odd\0") + packet(b"a")})
    with gateway(fake, "tempfail") as gate:
        assert Client(gate).send(MAIL).startswith("250 ")
        listed = wait_for(lambda: gate.ctl_json("queue", "list"))
        assert "looks odd" in listed[0]["reason"], listed
        gate.stop()
        gate.start()
        again = gate.ctl_json("queue", "list")
        assert [m["id"] for m in again] == [listed[0]["id"]]
        assert again[0]["state"] == "held"
        assert gate.ctl_json("queue", "delete", listed[0]["id"]) == \
            {"changed": 1}
        assert gate.ctl_json("queue", "list") == []
    fake.close()


@tap.test("a full disk: 452 4.3.1 at MAIL, all that was accepted arrives")
def _():
    n = len(sink.messages)
    gate = Gateway(sink.port, extra="queue { segment-size = 1M min-free = 1M }"
                   "\nlimits { inline-size = 64K }\n")
    os.makedirs(gate.dir + "/spool")
    gate.prefix = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o "
                   f"size=16m,mode=0777 tmpfs {gate.dir}/spool && "
                   'exec "$@"', "sh"]
    with gate:
        gate.ctl("pause", "delivery")
        acked = 0
        got = ""
        body = b"x" * 70 + b"\r\n"
        for i in range(200):
            got = Client(gate).send(b"Subject: %d\r\n\r\n" % i + body * 3000)
            if not got.startswith("250 "):
                break
            acked += 1
        assert got.startswith("452 4.3.1"), (acked, got)
        assert acked > 10, acked

        def alarm():
            Client(gate).say("MAIL FROM:<a@from.test>")
            return [a for a in gate.ctl_json("status")["alarms"]
                    if a["kind"] in ("disk", "full")]
        assert wait_for(alarm, 10, 0.5)
        gate.ctl("resume", "delivery")

        def missing():
            """What is not at the sink yet; notices go there as well."""
            got = b"".join(m.content[:400] for m in sink.messages[n:])
            return ({b"%d" % i for i in range(acked)} -
                    set(re.findall(rb"\nSubject: (\d+)\r", got)))
        assert wait_for(lambda: not missing(), 60), missing()
        assert wait_for(lambda: Client(gate).send(MAIL).startswith("250 "), 30)


@tap.test("an unreadable table: 451 at RCPT, and an alarm that names it")
def _():
    gate = Gateway(sink.port, extra='route { mailertable = '
                   '"text:/nonexistent/table" }\n')
    with gate:
        got = Client(gate).send(MAIL)
        assert got.startswith("451"), got
        status = gate.ctl_json("status")
        assert "/nonexistent/table" in str(status["alarms"]) or \
            "/nonexistent/table" in gate.log_text()
        # nothing but the notice to postmaster, which waits as well
        left = wait_for(lambda: gate.ctl_json("queue", "list"))
        assert [m["sender"] for m in left] == [""], left


try:
    tap.run()
finally:
    sink.close()
