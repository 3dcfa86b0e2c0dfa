# SPDX-License-Identifier: ISC
# slow
"""bounce - next hops that refuse, defer, hang or lack things; what the sender
is told, and when"""
import email
import email.policy
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, wait_for, without_trace  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
HEAD = (b"From: <a@from.test>\r\nTo: <b@to.test>\r\nSubject: the subject\r\n"
        b"Message-ID: <m1@from.test>\r\n\r\n")
MAIL = HEAD + b"the body\r\n"
QUICK = "queue { retry-min = 200ms retry-max = 1s }\n"
back = Sink()  # where reports go
hop = Sink()   # the next hop under test


def gateway(extra=QUICK, **more):
    table = (f"from.test smtp:[127.0.0.1]:{back.port}\n"
             f"gate.test smtp:[127.0.0.1]:{back.port}\n"
             f". smtp:[127.0.0.1]:{hop.port}\n")
    hop.on.clear()
    hop.ehlo = Sink.EHLO
    return Gateway(None, files={"table": table},
                   route='mailertable = "text:DIR/table"', extra=extra,
                   **more)


def submit(gate, content=MAIL, mail="", rcpt="", rcpts=("b@to.test",),
           sender="a@from.test"):
    """A message with ESMTP parameters; how many came back before it."""
    n = len(back.messages)
    c = Client(gate)
    c.say("EHLO client.test")
    for line in (f"MAIL FROM:<{sender}> {mail}",
                 *(f"RCPT TO:<{r}> {rcpt}" for r in rcpts)):
        got = c.say(line)
        assert got.startswith("250 "), (line, got)
    c.say("DATA")
    c.sock.sendall(content + b".\r\n")
    got = c.reply()
    assert got.startswith("250 "), got
    c.close()
    return n


def report(n, seconds=10):
    """The report after the first n: message, status fields, what returned."""
    msgs = back.wait(n + 1, seconds)
    assert len(msgs) == n + 1, "no report"
    m = email.message_from_bytes(msgs[-1].content, policy=email.policy.SMTP)
    assert m.get_content_type() == "multipart/report", m["content-type"]
    parts = m.get_payload()
    fields = [dict(b.items()) for b in parts[1].get_payload()]
    return msgs[-1], m, parts, fields


@tap.test("a bounce has the fields of RFC 3464 and the whole message")
def _():
    with gateway() as gate:
        hop.on["RCPT"] = "550 5.1.1 <b@to.test>... User unknown"
        n = submit(gate, mail="ENVID=QQ314159",
                   rcpt="ORCPT=rfc822;Orig@to.test")
        raw, m, parts, (per_message, per_rcpt) = report(n)
        assert raw.sender == "" and raw.rcpts == ["a@from.test"]
        assert m["to"].addresses[0].addr_spec == "a@from.test"
        assert m["from"].addresses[0].addr_spec == "MAILER-DAEMON@gate.test"
        assert m["auto-submitted"] == "auto-replied"
        assert m["message-id"] and m["date"] and m["mime-version"] == "1.0"
        assert m.get_param("report-type") == "delivery-status"
        assert [p.get_content_type() for p in parts] == [
            "text/plain", "message/delivery-status", "message/rfc822"]
        assert per_message["Reporting-MTA"] == "dns; gate.test", per_message
        assert per_message["Original-Envelope-Id"] == "QQ314159"
        assert "Arrival-Date" in per_message
        assert per_rcpt["Original-Recipient"] == "rfc822;Orig@to.test"
        assert per_rcpt["Final-Recipient"] == "rfc822; b@to.test"
        assert per_rcpt["Action"] == "failed"
        assert per_rcpt["Status"] == "5.1.1"
        assert "127.0.0.1" in per_rcpt["Remote-MTA"]
        assert per_rcpt["Diagnostic-Code"] == \
            "smtp; 550 5.1.1 <b@to.test>... User unknown"
        text = parts[0].get_content()
        assert "b@to.test" in text and "User unknown" in text
        assert without_trace(parts[2].get_payload(0).as_bytes()) == MAIL


@tap.test("RET=HDRS returns the header alone; NOTIFY=NEVER tells nobody")
def _():
    with gateway() as gate:
        hop.on["RCPT"] = "550 5.1.1 no"
        _, _, parts, _ = report(submit(gate, mail="RET=HDRS"))
        assert parts[2].get_content_type() == "text/rfc822-headers"
        returned = parts[2].get_payload()
        assert "Subject: the subject" in returned
        assert "the body" not in returned
        n = submit(gate, rcpt="NOTIFY=NEVER")
        assert wait_for(lambda: gate.ctl_json("queue", "list") == [], 10)
        time.sleep(0.2)
        assert len(back.messages) == n


@tap.test("each recipient has its own fate")
def _():
    with gateway() as gate:
        tries = []

        def fate(line):
            if "gone@" in line:
                return "550 5.1.1 gone"
            if "slow@" in line:
                tries.append(line)
                return "450 4.2.1 slow" if len(tries) == 1 else None
        hop.on["RCPT"] = fate
        k = len(hop.messages)
        n = submit(gate, rcpts=("ok@to.test", "gone@to.test", "slow@to.test"))
        _, _, _, fields = report(n)
        assert [f["Final-Recipient"] for f in fields[1:]] == [
            "rfc822; gone@to.test"]
        msgs = hop.wait(k + 2, 10)[k:]
        assert [m.rcpts for m in msgs] == [["ok@to.test"], ["slow@to.test"]]
        assert wait_for(lambda: gate.ctl_json("queue", "list") == [], 10)
        assert len(tries) == 2


@tap.test("a bounce that fails is shown to the postmaster, once")
def _():
    with gateway() as gate:
        hop.on["RCPT"] = "550 5.1.1 no"
        n = submit(gate, sender="")
        raw, _, _, fields = report(n)
        assert raw.rcpts == ["postmaster@gate.test"] and raw.sender == ""
        assert fields[1]["Final-Recipient"] == "rfc822; b@to.test"
        back.refuse_rcpt["postmaster@gate.test"] = "550 5.1.1 not here either"
        try:
            n = submit(gate, sender="")
            assert wait_for(lambda: "double bounce to postmaster: dropped"
                            in gate.log_text(), 10)
        finally:
            back.refuse_rcpt.clear()
        assert len(back.messages) == n
        assert wait_for(lambda: gate.ctl_json("queue", "list") == [], 10)


@tap.test("a delay warning, then the return, with the last reason")
def _():
    with gateway(extra="queue { retry-min = 300ms retry-max = 1s "
                 "warn-after = 1s expire = 4s }\n") as gate:
        hop.on["MAIL"] = "451 4.1.8 Domain of sender address does not resolve"
        n = submit(gate)
        found = wait_for(lambda: [
            m for m in gate.ctl_json("queue", "list")
            if m["attempts"] > 1 and m["state"] == "deferred"], 10)
        assert found and "4.1.8 Domain of sender" in found[0]["reason"], found
        assert "stat=Deferred: 451 4.1.8 Domain of sender" in gate.log_text()
        raw, _, parts, fields = report(n)
        assert fields[1]["Action"] == "delayed", fields
        assert fields[1]["Status"].startswith("4."), fields
        assert "Will-Retry-Until" in fields[1], fields
        assert "the body" not in parts[2].get_payload()
        raw, _, parts, fields = report(n + 1, 15)
        assert fields[1]["Action"] == "failed", fields
        assert fields[1]["Status"] == "4.4.7", fields
        assert "4.1.8" in fields[1]["Diagnostic-Code"], fields
        assert gate.ctl_json("queue", "list") == []


def late(gate, what):
    """One message arrives exactly once although the hop did `what` first."""
    k = len(hop.messages)
    n = submit(gate)
    msgs = hop.wait(k + 1, 20)
    assert len(msgs) == k + 1, (what, gate.ctl("queue", "list").stdout)
    assert without_trace(msgs[-1].content) == MAIL
    assert wait_for(lambda: gate.ctl_json("queue", "list") == [], 10), what
    time.sleep(0.1)
    assert len(hop.messages) == k + 1 and len(back.messages) == n, what


LIMITS = QUICK + ("relay { connect-time = 1s command-time = 1s data-time = 1s "
                  "idle-time = 0s }\n")


def once(what):
    """Does it the first time."""
    left = [what]
    return lambda line: left.pop() if left else None


@tap.test("a hop that defers at any step gets the message later")
def _():
    with gateway(LIMITS) as gate:
        for step in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"):
            for reply in ("421 4.3.2 closing", "451 4.3.0 not now"):
                hop.on = {step: once(reply)}
                late(gate, (step, reply))


@tap.test("a hop that hangs up or says nothing gets the message later")
def _():
    with gateway(LIMITS) as gate:
        for step in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"):
            for what in ("close", "hang"):
                hop.on = {step: once(what)}
                late(gate, (step, what))


@tap.test("a hop that talks nonsense gets the message later")
def _():
    with gateway(LIMITS) as gate:
        for step in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"):
            for what in ("HTTP/1.1 400 Bad Request", "999 what", "250" * 3000):
                hop.on = {step: once(what)}
                late(gate, (step, what[:20]))


@tap.test("a refusal at any step comes back")
def _():
    with gateway(LIMITS) as gate:
        for step in ("MAIL", "RCPT", "DATA", "DOT"):
            hop.on = {step: once("554 5.7.1 refused at " + step)}
            _, _, _, fields = report(submit(gate))
            assert fields[1]["Status"] == "5.7.1", fields
            assert "refused at " + step in fields[1]["Diagnostic-Code"]


@tap.test("hops without PIPELINING, 8BITMIME or even EHLO")
def _():
    content = HEAD + b"8-bit: \xc3\xa4\r\n.dot\r\n"
    with gateway(LIMITS) as gate:
        for ehlo in ((), ("8BITMIME",), ("PIPELINING",), None):
            hop.ehlo = ehlo
            k = len(hop.messages)
            n = len(hop.commands)
            submit(gate, content.replace(b"\r\n.", b"\r\n.."),
                   mail="BODY=8BITMIME", rcpts=("b@to.test", "c@to.test"))
            msgs = hop.wait(k + 1, 10)
            assert len(msgs) == k + 1, ehlo
            assert without_trace(msgs[-1].content) == content, ehlo
            assert msgs[-1].rcpts == ["b@to.test", "c@to.test"]
            mail = [c for c in hop.commands[n:] if c.startswith("MAIL")]
            assert ("BODY=8BITMIME" in mail[0]) == \
                ("8BITMIME" in (ehlo or ())), mail


@tap.test("what a hop cannot take bounces: SIZE, SMTPUTF8")
def _():
    with gateway(LIMITS) as gate:
        hop.ehlo = ("PIPELINING", "SIZE 1000", "8BITMIME")
        _, _, _, fields = report(submit(gate, HEAD + b"x" * 2000 + b"\r\n"))
        assert fields[1]["Status"] == "5.3.4", fields
        n = len(back.messages)
        submit(gate, mail="SMTPUTF8", rcpts=("b\u00fc@to.test",))
        msgs = back.wait(n + 1, 10)
        assert len(msgs) == n + 1
        assert b"Status: 5.6.7" in msgs[-1].content, msgs[-1].content
        assert "b\u00fc@to.test".encode() in msgs[-1].content


@tap.test("a loop ends at the hop limit, with a report")
def _():
    gate = gateway("limits { hops = 5 }\n")
    with open(gate.dir + "/table", "a") as f:
        f.write(f"loop.test smtp:[127.0.0.1]:{gate.port}\n")
    with gate:
        n = submit(gate, rcpts=("x@loop.test",))
        _, _, _, fields = report(n)
        assert fields[1]["Status"] == "5.4.6", fields
        assert gate.log_text().count("from=<a@from.test>") <= 8
        c = Client(gate)
        got = c.send(b"Received: x\r\n" * 6 + MAIL)
        assert got.startswith("554 5.4.6"), got


@tap.test("returns have room when new mail has none")
def _():
    gate = gateway()
    with gate:
        hop.on["RCPT"] = "550 5.1.1 no"
        gate.ctl("pause", "delivery")
        n = submit(gate)
        gate.stop()
        with open(gate.conf, "a") as f:
            f.write("queue { min-free = 1000000G }\n")
        gate.start()
        got = Client(gate).send(MAIL)
        assert got.startswith("452 4.3.1"), got
        gate.ctl("resume", "delivery")
        assert wait_for(lambda: [
            m for m in back.messages[n:] if m.rcpts == ["a@from.test"] and
            b"Status: 5.1.1" in m.content], 10), gate.log_text()


def cpu(pid):
    """Seconds of processor time that a process took."""
    with open(f"/proc/{pid}/stat") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@tap.test("a return that finds no room on the disk waits, and comes in time")
def _():
    gate = gateway(
        "queue { segment-size = 1M min-free = 0 retry-min = 300ms "
        "retry-max = 1s warn-after = 1d expire = 3s }\n")
    os.makedirs(gate.dir + "/spool")
    gate.prefix = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o "
                   f"size=12m,mode=0777 tmpfs {gate.dir}/spool && "
                   'exec "$@"', "sh"]
    with gate:
        hop.on["CONNECT"] = "421 4.3.2 closed"
        body = HEAD + (b"x" * 70 + b"\r\n") * 3000
        acked = 0
        n = len(back.messages)
        while acked < 100 and Client(gate).send(body).startswith("250 "):
            acked += 1
        assert 5 < acked < 100, acked
        pid = gate.pid("queue")
        time.sleep(4)  # they expire
        before, size = cpu(pid), len(gate.log_text())
        time.sleep(2)
        used = cpu(pid) - before
        assert used < 0.5, used
        assert len(gate.log_text()) - size < 200000
        hop.on.clear()  # the oldest can leave now, and make room
        gate.ctl("queue", "flush")
        assert wait_for(lambda: gate.ctl_json("queue", "list") == [], 30), \
            gate.ctl("queue", "list").stdout
        assert len(back.messages) - n + len(hop.messages) >= acked


try:
    tap.run()
finally:
    back.close()
    hop.close()
