# SPDX-License-Identifier: ISC
# slow
"""smtp - the server against clients that are slow, rude, many or hostile"""
import os
import resource
import smtplib
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, stuff, wait_for  # noqa: E402
from gateway import without_trace  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
HEAD = b"From: <a@from.test>\r\nTo: <b@to.test>\r\nSubject: s\r\n\r\n"
EVIL = (b"MAIL FROM:<evil@from.test>\r\nRCPT TO:<victim@to.test>\r\nDATA\r\n"
        b"evil\r\n.\r\nQUIT\r\n")


def opened(gate, ehlo=True, mail=True):
    c = Client(gate)
    if ehlo:
        assert c.say("EHLO client.test").startswith("250-")
    if mail:
        assert c.say("MAIL FROM:<a@from.test>").startswith("250 ")
        assert c.say("RCPT TO:<b@to.test>").startswith("250 ")
    return c


def descriptors(gate):
    """How many each process holds, by name."""
    return {p["name"]: len(os.listdir(f"/proc/{p['pid']}/fd"))
            for p in gate.ctl_json("status")["processes"]}


def settled(gate):
    return wait_for(lambda: gate.ctl_json("queue", "list") == [], 30)


def quiet(gate, n):
    """All that was accepted left, and n messages came out."""
    assert settled(gate)
    time.sleep(0.2)
    assert len(sink.messages) == n, [m.sender for m in sink.messages[n:]]


@tap.test("smuggling: no form of a false end brings a second message")
def _():
    ends = [a + b"." + c for a in (b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r\n",
                                   b"\0\r\n", b"\r\n\0")
            for c in (b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r\n", b"\0\r\n")]
    with Gateway(sink.port) as g:
        n = want = len(sink.messages)
        for end in ends:
            bare = end.replace(b"\r\n", b"")
            is_bare = b"\r" in bare or b"\n" in bare
            if b"\r\n.\r\n" in end and not is_bare:
                continue  # a true end
            c = opened(g)
            assert c.say("DATA").startswith("354")
            c.sock.sendall(HEAD + b"good" + end + EVIL.replace(
                b"\r\n.\r\n", b"\r\n..\r\n") + b".\r\n")
            got = c.reply()
            if is_bare:
                assert got.startswith("5") and "5.5.2" in got, (end, got)
            else:  # a line of a dot and a NUL is text
                assert got.startswith("250 "), (end, got)
                want += 1
            c.close()
        assert want > n
        quiet(g, want)
        assert {m.sender for m in sink.messages[n:]} == {"a@from.test"}


@tap.test("smuggling: chunks hide nothing, commands need CRLF")
def _():
    with Gateway(sink.port) as g:
        for part in (b"x\n.\n", b"x\r.\r\n", b"x\n.\r\n" + EVIL, b"\r"):
            n = len(sink.messages)
            c = opened(g)
            part = HEAD + part
            c.sock.sendall(b"BDAT %d LAST\r\n" % len(part) + part)
            got = c.reply()
            assert got.startswith("5") and "5.5.2" in got, (part, got)
            quiet(g, n)
        n = len(sink.messages)
        c = opened(g)  # an end within a chunk is none
        content = HEAD + b"x\r\n.\r\n" + EVIL
        c.sock.sendall(b"BDAT %d LAST\r\n" % len(content) + content)
        assert c.reply().startswith("250 ")
        quiet(g, n + 1)
        assert without_trace(sink.messages[-1].content) == content
        c = Client(g)
        c.sock.sendall(b"EHLO x\nMAIL FROM:<evil@from.test>\n")
        assert c.reply().startswith("500 5.5.2")
        assert c.reply().startswith("500 5.5.2")
        assert c.say("NO\rOP").startswith("500 5.5.2")
        assert c.say("NOOP").startswith("250 ")
        quiet(g, n + 1)


@tap.test("BDAT: RSET in the middle, refused chunks, size 0, 8 MB of chunks")
def _():
    with Gateway(sink.port) as g:
        n = len(sink.messages)
        c = opened(g)
        c.sock.sendall(b"BDAT 20\r\n" + HEAD[:20])
        assert c.reply().startswith("250 ")
        assert c.say("RSET").startswith("250 ")
        c.sock.sendall(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        assert c.reply().startswith("503"), "no MAIL: chunk is swallowed"
        assert c.reply().startswith("250 "), "NOOP"
        c.say("MAIL FROM:<a@from.test>")
        c.say("RCPT TO:<b@to.test>")
        c.sock.sendall(b"BDAT 4\r\nX: yBDAT 2\r\n\r\nBDAT 0\r\nBDAT 3\r\nz\r\n"
                       b"BDAT 0 LAST\r\nNOOP\r\n")
        got = [c.reply()[:3] for _ in range(6)]
        assert got == ["250"] * 6, got
        quiet(g, n + 1)
        # what is no field begins the body
        assert without_trace(sink.messages[-1].content) == b"X: y\r\n\r\nz\r\n"
        c.say("MAIL FROM:<a@from.test>")
        c.say("RCPT TO:<b@to.test>")
        assert c.say("BDAT").startswith("501 ")
        assert c.say("BDAT x LAST").startswith("501 ")
        assert c.say("BDAT 99999999999999999999").startswith("501 ")
        assert c.say("BDAT 0 FIRST").startswith("501 ")
        want = HEAD + b"0123456789abcde\r\n" * 500000
        at = 0
        while at < len(want):
            piece = want[at:at + 999983]
            at += len(piece)
            last = b" LAST" if at == len(want) else b""
            c.sock.sendall(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
            got = c.reply()
            assert got.startswith("250 "), got
        quiet(g, n + 2)
        assert without_trace(sink.messages[-1].content) == want


@tap.test("SIZE: announced, declared, and counted to the byte")
def _():
    with Gateway(sink.port, extra="limits { message-size = 100K }") as g:
        n = len(sink.messages)
        c = Client(g)
        assert "250-SIZE 102400" in c.say("EHLO client.test")
        got = c.say("MAIL FROM:<a@from.test> SIZE=102401")
        assert got.startswith("552 5.3.4"), got
        fits = HEAD + b"x" * 98 + b"\r\n"
        fits += b"y" * (102400 - len(fits) - 2) + b"\r\n"
        fits = b"\r\n".join([HEAD[:-2], *[b"l" * 998] * 102])
        fits += b"z" * (102400 - 2 - len(fits)) + b"\r\n"
        assert len(fits) == 102400
        assert c.send(fits, ehlo=False).startswith("250 ")
        got = c.send(fits[:-2] + b"z\r\n", ehlo=False)
        assert got.startswith("552 5.3.4"), got
        assert c.send(stuff(HEAD + b".\r\n" * 1000),
                      ehlo=False).startswith("250 ")
        c.say("MAIL FROM:<a@from.test>")
        c.say("RCPT TO:<b@to.test>")
        c.sock.sendall(b"BDAT 102401\r\n" + fits + b"x")
        assert c.reply().startswith("552 5.3.4")
        assert c.say("NOOP").startswith("250 ")
        quiet(g, n + 2)


@tap.test("limits: line, header, fields, recipients, errors, commands")
def _():
    with Gateway(sink.port, extra="limits { line-length = 2K header-size = 8K "
                 "header-fields = 20 recipients = 3 errors = 5 "
                 "commands = 30 }") as g:
        n = len(sink.messages)
        for content, want in (
                (HEAD + b"x" * 2048 + b"\r\n", "250 "),
                (HEAD + b"x" * 2049 + b"\r\n", "554 5.6.0"),
                (b"X: " + b"y" * 2100 + b"\r\n\r\n", "554 5.6.0"),
                (b"X: y\r\n" * 20 + b"\r\n", "250 "),
                (b"X: y\r\n" * 21 + b"\r\n", "554 5.6.0"),
                (b"X: " + b" y\r\n" * 3000 + b"\r\n", "554 5.6.0"),
                (b"X: \0\r\n\r\n", "554 5.6.0"),
                (HEAD + b"\0\r\n", "250 ")):
            got = Client(g).send(content)
            assert got.startswith(want), (content[:60], got)
        c = opened(g)
        assert c.say("RCPT TO:<c@to.test>").startswith("250 ")
        assert c.say("RCPT TO:<d@to.test>").startswith("250 ")
        assert c.say("RCPT TO:<e@to.test>").startswith("452 4.5.3")
        assert c.say("DATA").startswith("354")
        c.sock.sendall(HEAD + b".\r\n")
        assert c.reply().startswith("250 ")
        quiet(g, n + 4)
        assert ["b@to.test", "c@to.test", "d@to.test"] in [
            m.rcpts for m in sink.messages[n:]]
        c = Client(g)
        for _ in range(5):
            assert c.say("FROB").startswith("500 ")
        assert c.reply().startswith("421 4.7.0")
        assert c.file.read() == b""
        c = Client(g)
        for _ in range(31):
            assert c.say("NOOP").startswith("250 ")
        assert c.reply().startswith("421 4.7.0")
        c = Client(g)
        assert c.say("NOOP " + "x" * 4000).startswith("500 5.5.2")


@tap.test("times: command, content and whole content; a byte at a time passes")
def _():
    with Gateway(sink.port, extra="limits { command-time = 1s data-time = 1s "
                 "data-total-time = 2s }") as g:
        n = len(sink.messages)
        silent, half, drip = Client(g), opened(g), opened(g)
        assert half.say("DATA").startswith("354")
        half.sock.sendall(b"Subject: half")
        assert drip.say("DATA").startswith("354")
        begin = time.monotonic()
        while time.monotonic() < begin + 2.2:
            drip.sock.sendall(b"x")
            time.sleep(0.2)
        for c in (silent, half, drip):
            assert c.reply().startswith("421 4.4.2"), c
        c = opened(g)
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"DATA\r\n" + HEAD + b"slow\r\n.\r\n":
            c.sock.sendall(bytes([byte]))
            time.sleep(0.002)
        assert c.reply().startswith("354")
        assert c.reply().startswith("250 ")
        quiet(g, n + 1)


@tap.test("early talkers: refused with a greet pause, patient clients pass")
def _():
    with Gateway(sink.port, extra="limits { greet-pause = 700ms }") as g:
        n = len(sink.messages)
        with socket.create_connection((g.host, g.port), 10) as s:
            s.sendall(b"HELO spam\r\nMAIL FROM:<a@from.test>\r\n"
                      b"RCPT TO:<b@to.test>\r\nDATA\r\nQUIT\r\n")
            lines = s.makefile("rb").read().decode().splitlines()
        assert [line[:3] for line in lines] == [
            "554", "250", "550", "550", "550", "221"], lines
        assert "not accepting messages" in lines[0]
        begin = time.monotonic()
        c = Client(g)
        assert time.monotonic() - begin >= 0.65
        assert c.greeting.startswith("220 ")
        assert c.send(HEAD).startswith("250 ")
        quiet(g, n + 1)


@tap.test("421: too many sessions, paused, and at the end")
def _():
    with Gateway(sink.port, extra="limits { sessions = 8 "
                 "sessions-per-client = 5 }") as g:
        n = len(sink.messages)
        some = [Client(g) for _ in range(5)]
        got = Client(g).greeting
        assert got.startswith("421 4.7.0 Too many sessions from your"), got
        some[0].close()
        assert wait_for(lambda: Client(g).greeting.startswith("220 "))
        for c in some:
            c.close()
        wait_for(lambda: Client(g).greeting.startswith("220 "))
        busy = opened(g)
        assert busy.say("DATA").startswith("354")
        idle = opened(g, mail=False)
        g.ctl("pause", "accept")
        assert Client(g).greeting.startswith("421 4.3.2 Service is paused")
        assert idle.say("MAIL FROM:<a@from.test>").startswith("451 4.3.2")
        g.ctl("resume", "accept")
        assert wait_for(g.answers)
        g.proc.terminate()
        assert idle.reply().startswith("421 4.3.2"), "idle"
        busy.sock.sendall(HEAD + b"last\r\n.\r\n")
        assert busy.reply().startswith("250 ")
        assert busy.reply().startswith("421 4.3.2")
        assert g.stop() == 0
        g.start()
        assert len(sink.wait(n + 1, 10)) == n + 1


@tap.test("1000 sessions at once, all served; then all is as before")
def _():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with Gateway(sink.port, extra="limits { sessions = 1000 "
                 "sessions-per-client = 1000 }\n"
                 "relay { idle-time = 0s }") as g:
        n = len(sink.messages)
        assert Client(g).send(HEAD).startswith("250 ")
        assert settled(g)
        time.sleep(0.5)
        before = descriptors(g)
        many = []
        while len(many) < 1000:
            many.append(Client(g))
        assert all(c.greeting.startswith("220 ") for c in many)
        assert Client(g).greeting.startswith("421 ")
        for c in many:
            c.sock.sendall(b"EHLO many.test\r\nMAIL FROM:<a@from.test>\r\n"
                           b"RCPT TO:<b@to.test>\r\nDATA\r\n")
        for c in many:
            c.reply()
            c.reply()
            c.reply()
            got = c.reply()
            assert got.startswith("354"), got
        for c in many:
            c.sock.sendall(HEAD + b".\r\n")
        for c in many:
            got = c.reply()
            assert got.startswith("250 "), got
        for c in many:
            c.close()
        assert len(sink.wait(n + 1001, 60)) == n + 1001
        assert settled(g)

        def same():
            now = descriptors(g)
            return all(now[k] <= before[k] + 2 for k in before)
        assert wait_for(same, 15, 0.5), (before, descriptors(g))


@tap.test("600 sessions that break off anywhere leave nothing behind")
def _():
    script = (b"EHLO gone.test\r\nMAIL FROM:<a@from.test>\r\n"
              b"RCPT TO:<b@to.test>\r\nDATA\r\n" + HEAD + b"x" * 100000)
    with Gateway(sink.port, extra="limits { inline-size = 64K }\n"
                 "relay { idle-time = 0s }") as g:
        n = len(sink.messages)
        assert Client(g).send(HEAD).startswith("250 ")
        assert settled(g)
        time.sleep(1)
        before = descriptors(g)
        cuts = [i % 200 for i in range(300)] + \
            [len(script) * i // 300 for i in range(300)]
        for i, cut in enumerate(cuts):
            s = socket.create_connection((g.host, g.port), 10)
            s.sendall(script[:cut])
            if i % 2:  # a reset
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             b"\1\0\0\0\0\0\0\0")
            elif i % 3:
                s.recv(1)
            s.close()

        def same():
            now = descriptors(g)
            return all(now[k] <= before[k] for k in before)
        assert wait_for(same, 15, 0.5), (before, descriptors(g))
        assert not any(p["restarts"]
                       for p in g.ctl_json("status")["processes"])
        quiet(g, n + 1)


@tap.test("IPv6: 20 MB, 1000 recipients, no header, no final line end")
def _():
    with Gateway(sink.port, ipv6=True) as g:
        n = len(sink.messages)
        big = HEAD + b"0123456789abcdefghijklmnopqrstuvwxyz.\r\n" * 540000
        with smtplib.SMTP("::1", g.port6, timeout=60) as s:
            s.sendmail("a@from.test", ["b@to.test"], big)
        assert len(sink.wait(n + 1, 60)) == n + 1
        assert without_trace(sink.messages[-1].content) == big
        assert b"[IPv6:::1]" in sink.messages[-1].content[:300]
        rcpts = [f"r{i}@to.test" for i in range(1000)]
        with smtplib.SMTP("::1", g.port6, timeout=60) as s:
            refused = s.sendmail("a@from.test", rcpts, HEAD + b"many\r\n")
        assert refused == {}
        assert settled(g)
        got = [r for m in sink.messages[n + 1:] for r in m.rcpts]
        assert sorted(got) == sorted(rcpts), len(got)
        c = Client(g, "::1", g.port6)
        c.say("EHLO six.test")
        c.say("MAIL FROM:<a@from.test>")
        c.say("RCPT TO:<b@to.test>")
        c.sock.sendall(b"BDAT 9 LAST\r\nno header")
        assert c.reply().startswith("250 ")
        assert settled(g)
        assert without_trace(sink.messages[-1].content) == b"\r\nno header\r\n"


try:
    tap.run()
finally:
    sink.close()
