# SPDX-License-Identifier: ISC
"""shadow - no reply waits for a milter in shadow, and nothing of it is applied

"quiet" is the milter in shadow, "loud" one behind it that counts.  What quiet
said stands in a record of its own, next to what really happened.
"""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import OPTIONS, FakeMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, wait_for,  # noqa: E402
                     without_trace)
from sink import Sink  # noqa: E402

AT_ONCE = 1.0 * int(os.environ.get("MILLDAM_TEST_SLOW", "1"))
HANG = 15
MAIL = b"Subject: t\r\n\r\nhello\r\n"
REJECT = packet(b"r")
EDITS = (packet(b"h", b"X-Quiet\0yes\0") + packet(b"-", b"<b@to.test>\0") +
         packet(b"b", b"gone\r\n") + packet(b"q", b"odd\0"))

tap = Tap()
sink = Sink()
quiet, loud = FakeMilter(), FakeMilter()
release = threading.Event()


def hang(conn):
    release.wait(HANG)
    return packet(b"c")


def plain():
    quiet.answers.clear()
    loud.answers.clear()
    loud.answers["E"] = packet(b"h", b"X-Loud\0yes\0") + packet(b"c")
    del quiet.seen[:], loud.seen[:]
    release.clear()


def send(content=MAIL, client=None, **how):
    """One message; its reply and how long the slowest of them took."""
    begin = time.monotonic()
    got = (client or Client(gate)).send(content, **how)
    return got, time.monotonic() - begin


def records(ident):
    got = gate.ctl_json("explain", ident)
    return got if isinstance(got, list) else []


def shadows(ident, n=1):
    """The shadow's records of that message, once there are n."""
    def look():
        got = [r for r in records(ident) if "shadow" in r]
        return got if len(got) >= n else None
    got = wait_for(look)
    assert got, records(ident)
    assert len(got) == n, got
    return got


def shadow(ident):
    told = shadows(ident)[0]
    assert "shadow" not in records(ident)[0]  # it stands behind the message's
    return told


def stages(told):
    return {s["stage"]: s["reply"] for s in told["milters"][0]["stages"]}


def real(ident):
    got = [r for r in records(ident) if "shadow" not in r]
    assert len(got) == 1, got
    return got[0]


def delivered(reply, content=MAIL):
    """Accepted, and as it was sent but for what loud adds."""
    assert reply.startswith("250 "), reply
    assert wait_for(lambda: sink.messages)
    m = sink.messages.pop()
    got = without_trace(m.content).replace(b"X-Loud: yes\r\n", b"")
    assert got == content and b"X-Loud" in m.content, m.content[:600]
    return reply.split()[2], m


@tap.test("what it would do stands next to what happened, and is not done")
def _():
    plain()
    quiet.answers["E"] = EDITS + REJECT
    ident, m = delivered(send()[0])
    told = shadow(ident)
    assert m.rcpts == ["b@to.test"], m.rcpts
    assert told["shadow"] == "quiet" and told["verdict"] == "reject", told
    assert told["outcome"] == "queued" and told["id"] == ident, told
    mine = real(ident)
    assert mine["outcome"] == "queued", mine
    entry = [x for x in mine["milters"] if x["name"] == "quiet"]
    assert entry == [{"name": "quiet", "mode": "shadow"}], entry
    found = gate.ctl_json("explain", "--since", "1h")
    assert found and not [r for r in found if "shadow" in r], found
    out = gate.ctl("explain", ident).stdout
    assert "quiet" in out and "reject" in out, out

    plain()
    quiet.answers["E"] = EDITS + packet(b"c")
    ident, m = delivered(send()[0])
    told = shadow(ident)
    assert told["verdict"] == "quarantine", told
    edits = {e["edit"]: e for e in told["milters"][0]["edits"]}
    assert sorted(edits) == ["add-header", "delete-rcpt", "quarantine",
                             "replace-body"], edits
    assert edits["replace-body"]["before"] == "7 bytes" and \
        edits["replace-body"]["after"] == "6 bytes", edits


@tap.test("it hangs at any command: every reply comes at once")
def _():
    for stage in ("O", "C", "H", "M", "R", "T", "L", "N", "B", "E"):
        plain()
        quiet.answers[stage] = hang if stage != "O" else (
            lambda conn: release.wait(HANG) and OPTIONS)
        reply, took = send()
        assert took < AT_ONCE, (stage, took)
        ident, _ = delivered(reply)
        assert not shadows_now(ident), stage
        release.set()
        assert shadow(ident)["verdict"] in ("accept", "continue"), stage


def shadows_now(ident):
    return [r for r in records(ident) if "shadow" in r]


@tap.test("it dies at any command: nobody else notices")
def _():
    for stage in ("O", "C", "M", "R", "L", "E"):
        plain()
        quiet.answers[stage] = "close"
        ident, _ = delivered(send()[0])
        told = shadow(ident)
        assert told["verdict"] == "failed", (stage, told)
        assert "closed" in told["milters"][0]["failure"], told
        assert told["outcome"] == "queued", told


@tap.test("refusals at each stage are told, and refuse nobody")
def _():
    for stage in "CHMRTLNBE":
        plain()
        quiet.answers[stage] = packet(b"y", b"550 5.7.1 no\0")
        ident, _ = delivered(send()[0])
        told = shadow(ident)
        assert told["verdict"] == "reject", (stage, told)
        assert "550 5.7.1 no" in str(told["milters"]), told


@tap.test("it is shown what others refuse or hold")
def _():
    plain()
    loud.answers["E"] = packet(b"y", b"550 5.7.1 loud\0")
    reply, _ = send()
    assert reply == "550 5.7.1 loud", reply
    assert wait_for(lambda: b"E" in [c for c, _ in quiet.seen])
    ident = wait_for(lambda: [x.split(": ")[1] for x in
                              gate.log_text().splitlines()
                              if "550 5.7.1 loud" in x])[-1].split()[-1]
    told = shadow(ident)
    assert told["outcome"] == "rejected" and told["milter"] == "loud" and \
        told["reply"] == "550 5.7.1 loud", told
    assert told["verdict"] in ("accept", "continue"), told

    plain()
    loud.answers["E"] = packet(b"q", b"odd\0") + packet(b"c")
    reply, _ = send()
    ident = reply.split()[2]
    told = shadow(ident)
    assert told["outcome"] == "held" and told["milter"] == "loud", told
    assert len(records(ident)) == 2, records(ident)
    assert gate.ctl("queue", "delete", ident).returncode == 0


@tap.test("it sees the version of its place, and who was accepted")
def _():
    plain()
    ident, _ = delivered(send(rcpts=("b@to.test", "c@to.test"))[0])
    shadow(ident)
    told = [(c, d) for c, d in quiet.seen if c in b"CHMRLBE"]
    assert [d.split(b"\0")[0] for c, d in told if c == b"R"] == [
        b"<b@to.test>", b"<c@to.test>"], told
    assert [d for c, d in told if c == b"L"] == [b"Subject\0t\0"], told
    assert [d for c, d in told if c == b"B"] == [b"hello\r\n"], told
    assert [d for c, d in told if c == b"H"] == [b"client.test\0"], told
    assert [d.split(b"\0")[0] for c, d in told if c == b"M"] == [
        b"<a@from.test>"], told


@tap.test("several messages of one connection, while it hangs")
def _():
    plain()
    quiet.answers["E"] = hang
    client = Client(gate)
    idents = []
    for i in range(3):
        reply, took = send(client=client, ehlo=i == 0)
        assert took < AT_ONCE, took
        idents.append(delivered(reply)[0])
    client.close()
    release.set()
    for ident in idents:
        assert shadow(ident)["outcome"] == "queued"


@tap.test("a large message")
def _():
    plain()
    large = b"Subject: l\r\n\r\n" + b"0123456789\r\n" * 400000
    quiet.answers["B"] = hang
    begin = time.monotonic()
    reply, _ = send(large)
    assert time.monotonic() - begin < HANG / 2
    ident, _ = delivered(reply, large)
    release.set()
    shadow(ident)
    body = b"".join(d for c, d in quiet.seen if c == b"B")
    assert body == large.split(b"\r\n\r\n", 1)[1], len(body)


def not_shown():
    return [m for m in gate.ctl_json("status")["milters"]
            if m["name"] == "quiet"][0]["not_shown"]


@tap.test("beyond the limits it is not shown the message, and that is told")
def _():
    for option, why in (("shadow-sessions = 2", "shadow-sessions"),
                        ("shadow-size = 3K", "shadow-size")):
        plain()
        configure(f"limits {{ {option} }}")
        quiet.answers["E"] = hang
        idents = []
        for _ in range(5):
            reply, took = send()
            assert took < AT_ONCE, took
            idents.append(delivered(reply)[0])
        entries = [x for i in idents for x in real(i)["milters"]
                   if x["name"] == "quiet"]
        shown = [x for x in entries if "not_shown" not in x]
        assert 1 <= len(shown) < 5, entries
        assert option[:10] != "shadow-ses" or len(shown) == 2, entries
        assert entries[0] in shown, entries
        assert {x["not_shown"] for x in entries if x not in shown} == {why}
        release.set()
        for ident, x in zip(idents, entries):
            if x in shown and "not_shown" not in x:
                shadow(ident)
    configure("")


@tap.test("a rule has it in shadow for some recipients only")
def _():
    plain()
    configure('policy "inbound" { rule "s" { recipient = "s*@*" '
              'mode = {"quiet=shadow"} } }', mode="enforce")
    quiet.answers["E"] = packet(b"h", b"X-Quiet\0yes\0") + packet(b"c")
    reply, _ = send(rcpts=("b@to.test", "s@to.test"))
    assert reply.startswith("250 "), reply
    assert wait_for(lambda: len(sink.messages) == 2)
    got = {m.rcpts[0]: b"X-Quiet: yes" in m.content for m in sink.messages}
    assert got == {"b@to.test": True, "s@to.test": False}, got
    del sink.messages[:]
    told = shadow(reply.split()[2] + "-2")
    assert told["group"] == 2 and told["outcome"] == "queued", told
    assert [d.split(b"\0")[0] for c, d in quiet.seen if c == b"R"] == [
        b"<b@to.test>", b"<s@to.test>"]
    plain()
    quiet.answers["E"] = hang  # alone in shadow: nobody waits
    reply, took = send(rcpts=("s@to.test",))
    assert took < AT_ONCE, took
    ident, _ = delivered(reply)
    release.set()
    shadow(ident)
    configure("")


@tap.test("a reload does not disturb it")
def _():
    plain()
    quiet.answers["E"] = hang
    ident, _ = delivered(send()[0])
    configure("", mode="off")
    assert not shadows_now(ident)
    release.set()
    assert shadow(ident)["verdict"] in ("accept", "continue")
    configure("")


@tap.test("at a stop it gets a little time, and what it said is kept")
def _():
    plain()
    quiet.answers["E"] = hang
    ident, _ = delivered(send()[0])
    assert wait_for(lambda: b"E" in [c for c, _ in quiet.seen])
    begin = time.monotonic()
    gate.stop()
    took = time.monotonic() - begin
    assert took < HANG - 3, took
    gate.start()
    told = shadow(ident)
    assert told["verdict"] == "failed" and told["outcome"] == "queued", told
    assert told["milters"][0]["failure"] == "the gateway stopped", told
    assert stages(told)["rcpt"] == "continue", told

    plain()
    quiet.answers["E"] = lambda conn: time.sleep(0.5) or REJECT
    ident, _ = delivered(send()[0])
    gate.stop()
    gate.start()
    assert shadow(ident)["verdict"] == "reject"


@tap.test("milldamctl puts it in shadow and back")
def _():
    plain()
    configure("", mode="enforce")
    quiet.answers["E"] = REJECT
    assert send()[0].startswith("550 ")
    assert gate.ctl("milter", "quiet", "shadow").returncode == 0
    ident, _ = delivered(send()[0])
    assert shadow(ident)["verdict"] == "reject"
    assert gate.ctl("milter", "quiet", "enforce").returncode == 0
    assert wait_for(lambda: send()[0].startswith("550 "))


def configure(text, mode="shadow"):
    with open(os.path.join(gate.dir, "local.conf"), "w") as f:
        f.write(f'milter "quiet" {{ mode = {mode} }}\n{text}\n')
    p = gate.ctl("reload")
    assert p.returncode == 0, p
    assert wait_for(gate.answers)


gate = Gateway(
    sink.port, ("access", "quiet", "loud"),
    f'milter "quiet" {{ endpoints = {{"{quiet.endpoint()}"}}'
    ' mode = shadow on-failure = reject\n'
    ' timeout = {"command=60s" "message=60s"} }\n'
    f'milter "loud" {{ endpoints = {{"{loud.endpoint()}"}} }}\n',
    extra='include "local.conf"', files={"local.conf": ""})
with gate:
    status = tap.run()
sink.close()
sys.exit(status)
