# SPDX-License-Identifier: ISC
# plain build only
"""senders - what swaks, smtp-source and real sample mails bring, arrives"""
import glob
import gzip
import os
import smtplib
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Gateway, Tap, without_trace  # noqa: E402
from packages import unpack  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()


def crlf(content):
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@tap.test("the sample mails of Debian's spamassassin arrive to the byte")
def _():
    root = unpack("spamassassin", ["spamassassin"], closure=False)
    found = [p for p in glob.glob(root + "/usr/share/doc/spamassassin/**/*",
                                  recursive=True)
             if os.path.basename(p).startswith("sample-")]
    assert len(found) >= 2, found
    for path in found:
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rb") as f:
            content = crlf(f.read())
        n = len(sink.messages)
        with smtplib.SMTP(gate.host, gate.port, timeout=30) as s:
            s.sendmail("a@from.test", ["b@to.test"], content)
        msgs = sink.wait(n + 1)
        assert len(msgs) == n + 1, path
        assert without_trace(msgs[-1].content) == content, path


@tap.test("swaks: envelope, header and body arrive")
def _():
    n = len(sink.messages)
    p = subprocess.run(
        ["swaks", "--server", f"{gate.host}:{gate.port}", "--from",
         "s@from.test", "--to", "one@to.test,two@to.test", "--header",
         "Subject: by swaks", "--body", "first\n.second\n"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stdout[-2000:]
    m = sink.wait(n + 1)[-1]
    assert m.sender == "s@from.test"
    assert sorted(m.rcpts) == ["one@to.test", "two@to.test"]
    assert b"\r\nSubject: by swaks\r\n" in m.content
    assert b"\r\n\r\nfirst\r\n.second\r\n" in m.content


@tap.test("swaks without ESMTP and without pipelining")
def _():
    n = len(sink.messages)
    for arg in ("--protocol=SMTP", "--pipeline"):
        p = subprocess.run(
            ["swaks", "--server", f"{gate.host}:{gate.port}", arg, "--from",
             "s@from.test", "--to", "one@to.test"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60)
        assert p.returncode == 0, p.stdout[-2000:]
    assert len(sink.wait(n + 2)) == n + 2


@tap.test("smtp-source: 300 messages over 10 sessions, each whole")
def _():
    root = unpack("postfix", ["postfix"])
    env = dict(os.environ, LD_LIBRARY_PATH=f"{root}/usr/lib/postfix:"
               f"{root}/usr/lib/x86_64-linux-gnu")
    for args, size in ((["-l", "20000"], 20000), (["-d", "-l", "500"], 500)):
        n = len(sink.messages)
        p = subprocess.run(
            [root + "/usr/sbin/smtp-source", "-s", "10", "-m", "300", "-f",
             "a@from.test", "-t", "b@to.test", *args,
             f"inet:{gate.host}:{gate.port}"], env=env, timeout=120,
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert p.returncode == 0, p.stderr
        msgs = sink.wait(n + 300, 60)[n:]
        assert len(msgs) == 300, len(msgs)
        bodies = {without_trace(m.content).split(b"\r\n\r\n", 1)[1]
                  for m in msgs}
        assert len(bodies) == 1, "bodies differ"
        body = bodies.pop()
        assert abs(len(body) - size) < 1000 and \
            set(body) <= set(b"X0123456789\r\n"), \
            (len(body), set(body))


gate = Gateway(sink.port)
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
