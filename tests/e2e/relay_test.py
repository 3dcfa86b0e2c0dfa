# SPDX-License-Identifier: ISC
"""relay - mail goes in by SMTP and comes out at the next hop, to the byte"""
import os
import random
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, wait_for, without_trace  # noqa: E402
from mails import stranger  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
HEAD = b"From: <a@from.test>\r\nTo: <b@to.test>\r\nSubject: s\r\n\r\n"


def passes(content):
    """content arrives as it was sent, below our Received field"""
    n = len(sink.messages)
    c = Client(gate)
    got = c.send(content)
    assert got.startswith("250 "), got
    c.close()
    msgs = sink.wait(n + 1)
    assert len(msgs) == n + 1, "did not arrive"
    assert without_trace(msgs[-1].content) == content
    return msgs[-1]


@tap.test("a plain message arrives as it was sent")
def _():
    m = passes(HEAD + b"hello\r\n")
    assert m.sender == "a@from.test" and m.rcpts == ["b@to.test"]


@tap.test("messages of all shapes arrive to the byte")
def _():
    shapes = {
        "empty body": HEAD,
        "header only": b"Subject: x\r\n\r\n",
        "dots": HEAD + b".\r\n..\r\n.x\r\n\r\n.\r\n",
        "8-bit": HEAD + bytes(b for b in range(128, 256)) + b"\r\n",
        "NUL in the body": HEAD + b"a\0b\r\n",
        "line of 998": HEAD + b"x" * 998 + b"\r\n",
        "line of 60000": HEAD + b"y" * 60000 + b"\r\n",
        "folded header": b"Subject: a\r\n b\r\n\tc\r\nX:no blank\r\n\r\nz\r\n",
        "100 KB": HEAD + b"0123456789abcdef\r\n" * 6000,
        "1 MB": HEAD + b"0123456789abcdef\r\n" * 60000,
        "8 MB": HEAD + b"0123456789abcdef\r\n" * 480000,
    }
    for name, content in shapes.items():
        try:
            passes(content)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e


@tap.test("200 generated messages arrive to the byte")
def _():
    rnd = random.Random(7)
    alphabet = [b"a", b"b", b".", b" ", b"\t", b"\r\n", b"\r\n", b"\xc3\xa4",
                b"\xff", b"=", b"From ", b"\r\n.\r\n."]
    want = []
    n = len(sink.messages)
    c = Client(gate)
    c.say("EHLO client.test")
    for i in range(200):
        body = b"".join(rnd.choice(alphabet) for _ in range(rnd.randrange(400)))
        content = HEAD + f"id-{i}\r\n".encode() + body + b"\r\n"
        want.append(content)
        got = c.send(content, ehlo=False)
        assert got.startswith("250 "), got
    msgs = sink.wait(n + 200, 60)[n:]
    assert sorted(without_trace(m.content) for m in msgs) == sorted(want)


@tap.test("text that does not begin with a field gets an empty line")
def _():
    n = len(sink.messages)
    c = Client(gate)
    assert c.send(b"no header here\r\n").startswith("250 ")
    got = without_trace(sink.wait(n + 1)[-1].content)
    assert got == b"\r\nno header here\r\n", got


@tap.test("1000 recipients go with one message")
def _():
    n = len(sink.messages)
    rcpts = [f"r{i}@to.test" for i in range(1000)]
    c = Client(gate)
    assert c.send(HEAD + b"x\r\n", rcpts=rcpts).startswith("250 ")
    wait_for(lambda: sum(len(m.rcpts) for m in sink.messages[n:]) >= 1000)
    assert sorted(r for m in sink.messages[n:] for r in m.rcpts) == \
        sorted(rcpts)


@tap.test("IPv6 clients are served")
def _():
    n = len(sink.messages)
    c = Client(gate, "::1", gate.port6)
    assert c.send(HEAD + b"six\r\n").startswith("250 ")
    assert sink.wait(n + 1)[-1].content.endswith(b"six\r\n")


@tap.test("Python's smtplib is understood")
def _():
    n = len(sink.messages)
    with smtplib.SMTP(gate.host, gate.port) as s:
        s.sendmail("a@from.test", ["b@to.test"], HEAD + b"lib\r\n")
    assert sink.wait(n + 1)[-1].content.endswith(b"lib\r\n")


@tap.test("a client outside the relay networks is refused with 550 5.7.1")
def _():
    c = stranger(gate)
    c.say("EHLO x.test")
    c.say("MAIL FROM:<a@from.test>")
    got = c.say("RCPT TO:<b@elsewhere.test>")
    assert got.startswith("550 5.7.1"), got
    got = c.say("RCPT TO:<b@ours.test>")
    assert got.startswith("250"), got


@tap.test("every smuggling form is refused and nothing of it arrives")
def _():
    for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r.\r\n",
                b"\r\n.\r", b"\n.\r"):
        n = len(sink.messages)
        c = Client(gate)
        c.say("EHLO x.test")
        c.say("MAIL FROM:<a@from.test>")
        c.say("RCPT TO:<b@to.test>")
        c.say("DATA")
        c.sock.sendall(HEAD + b"x" + end +
                       b"MAIL FROM:<evil@from.test>\r\n\r\n.\r\n")
        got = c.reply()
        assert got.startswith("5") and "5.5.2" in got, (end, got)
        assert len(sink.messages) == n
        c.close()


@tap.test("a pipelined session is answered in order")
def _():
    n = len(sink.messages)
    c = Client(gate)
    c.say("EHLO x.test")
    c.sock.sendall(b"MAIL FROM:<a@from.test>\r\nRCPT TO:<b@to.test>\r\n"
                   b"BOGUS\r\nDATA\r\n")
    assert [c.reply()[:3] for _ in range(4)] == ["250", "250", "500", "354"]
    c.sock.sendall(HEAD + b"piped\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert [c.reply()[:3] for _ in range(3)] == ["250", "250", "221"]
    assert len(sink.wait(n + 1)) == n + 1


@tap.test("BDAT chunks make one message")
def _():
    n = len(sink.messages)
    c = Client(gate)
    c.say("EHLO x.test")
    c.say("MAIL FROM:<a@from.test>")
    c.say("RCPT TO:<b@to.test>")
    one, two = HEAD + b"chunk one.\r", b"\n.chunk two\r\n"
    c.sock.sendall(b"BDAT %d\r\n" % len(one) + one)
    assert c.reply().startswith("250")
    c.sock.sendall(b"BDAT %d LAST\r\n" % len(two) + two)
    got = c.reply()
    assert got.startswith("250"), got
    assert without_trace(sink.wait(n + 1)[-1].content) == one + two


@tap.test("greeting and HELP show no version")
def _():
    c = Client(gate)
    text = c.greeting + c.say("HELP") + c.say("EHLO x")
    assert "milldam" not in text.lower() and "0.1.0" not in text, text


@tap.test("a recipient that the next hop refuses comes back as a bounce")
def _():
    sink.refuse_rcpt["gone@to.test"] = "550 5.1.1 no such user"
    n = len(sink.messages)
    c = Client(gate)
    assert c.send(HEAD, rcpts=["gone@to.test"]).startswith("250 ")
    msgs = sink.wait(n + 1)
    assert len(msgs) == n + 1
    m = msgs[-1]
    assert m.sender == "" and m.rcpts == ["a@from.test"]
    assert b"message/delivery-status" in m.content
    assert b"Final-Recipient: rfc822; gone@to.test" in m.content.replace(
        b"rfc822;gone", b"rfc822; gone")


gate = Gateway(sink.port, ipv6=True,
               access="relay-networks = {127.0.0.1, ::1}\n"
                      "relay-domains = {ours.test}\n")
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
