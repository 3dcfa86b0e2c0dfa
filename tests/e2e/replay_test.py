# SPDX-License-Identifier: ISC
"""replay - sessions recorded by the gateway, played to milters by mill"""
import glob
import os
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import INST, Client, Gateway, Tap, wait_for  # noqa: E402
from milterclient import Filter  # noqa: E402
from sanitizer import refuse_reports  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
RULES = r"""
header "tag" { name = "Subject" match = "^\\[spam\\] (.*)" action = "change"
    value = "SPAM: $1" }
header "site" { name = "X-Site" action = "add" value = "gate" }
"""
OTHER = RULES.replace('value = "gate"', 'value = "door"')
MAIL = b"From: <a@from.test>\r\nSubject: [spam] x\r\n\r\nbody\r\n"


def mill(*words):
    p = subprocess.run([os.path.join(INST, "bin/mill"), *words],
                       stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=60)
    refuse_reports(p.stderr)
    return p


def recordings(folder, n=1, milter="*"):
    """The newest n recordings once they are whole, the oldest first."""
    def found():
        names = sorted(glob.glob(f"{folder}/*-{milter}.milrec"))
        whole = [f for f in names if open(f, "rb").read().endswith(
            (b"complete", b"cut"))]
        return whole if len(whole) >= n else None
    got = wait_for(found, 10)
    assert got, os.listdir(folder)
    return got[-n:]


class Recorded:
    """A gateway with a rewrite milter that records."""

    def __init__(self, **more):
        self.gate = Gateway(
            sink.port, chain=("access", "rewrite"),
            milters='milter "rewrite" { run = "milldam-rewrite" settings = '
            '"rewrite.conf" library = milldam record = "rec" }',
            files={"rewrite.conf": RULES}, **more)

    def __enter__(self):
        gate = self.gate.start()
        self.gate.rec = self.gate.dir + "/rec"
        self.gate.socket = f"unix:{self.gate.dir}/run/milters/rewrite.sock"
        return gate

    def __exit__(self, *exc):
        self.gate.__exit__(*exc)


def sessions(gate):
    """Sessions of several kinds; each is a recording."""
    c = Client(gate)  # two messages, the first with an edit
    assert c.send(MAIL).startswith("250")
    assert c.send(MAIL.replace(b"[spam]", b"ham"), ehlo=False).startswith(
        "250")
    c.say("QUIT")
    c.close()
    c = Client(gate)  # RSET after RCPT, then a large one to two
    c.say("EHLO client.test")
    c.say("MAIL FROM:<a@from.test>")
    c.say("RCPT TO:<b@to.test>")
    c.say("RSET")
    big = MAIL + b"0123456789abcdef\r\n" * 20000
    assert c.send(big, rcpts=("b@to.test", "c@to.test")).startswith("250")
    c.say("QUIT")
    c.close()
    c = Client(gate)  # gone in the middle
    c.say("EHLO client.test")
    c.say("MAIL FROM:<a@from.test>")
    c.say("RCPT TO:<b@to.test>")
    c.close()


@tap.test("a recording has mode 0600, and holds the session")
def _():
    with Recorded() as gate:
        sessions(gate)
        files = recordings(gate.rec, 3)
        for f in files:
            assert stat.S_IMODE(os.stat(f).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(gate.rec).st_mode) == 0o700
        text = mill("show", files[0])
        assert text.returncode == 0, text.stderr
        for word in ("milter rewrite", "complete", "<a@from.test>",
                     "< add-header", "X-Site"):
            assert word in text.stdout, text.stdout
        assert text.stdout.count("end-of-message") == 2, text.stdout


@tap.test("played to the same milter nothing differs")
def _():
    with Recorded() as gate:
        sessions(gate)
        for f in recordings(gate.rec, 3):
            p = mill("replay", f, "--to", gate.socket)
            assert p.returncode == 0, p.stdout + p.stderr
            assert p.stdout == "0 differences\n", p.stdout


@tap.test("played to a milter with other settings its edits differ")
def _():
    with Recorded() as gate:
        sessions(gate)
        files = recordings(gate.rec, 3)
        with Filter("milldam-rewrite", OTHER) as f:
            p = mill("replay", files[0], "--to", "unix:" + f.path)
            assert p.returncode == 1, p.stdout + p.stderr
            assert "- add-header X-Site gate" in p.stdout, p.stdout
            assert "+ add-header X-Site door" in p.stdout, p.stdout
            assert "message 2: end-of-message 1: other edits" in p.stdout
            assert p.stdout.endswith("2 differences\n"), p.stdout


@tap.test("a listener's directory records each milter, on the pool too")
def _():
    with Gateway(sink.port) as gate:
        gate.stop()
        with open(gate.conf) as f:
            text = f.read()
        with open(gate.conf, "w") as f:
            f.write(text.replace('policy = "inbound" }\n',
                                 'policy = "inbound" record = "all" }\n')
                    .replace('settings = "access.conf" }',
                             'settings = "access.conf" library = milldam }'))
        gate.start()
        for _ in range(3):
            c = Client(gate)
            assert c.send(MAIL).startswith("250")
            c.say("QUIT")
            c.close()
        for f in recordings(gate.dir + "/all", 3, "access"):
            p = mill("replay", f, "--to",
                     f"unix:{gate.dir}/run/milters/access.sock")
            assert p.returncode == 0, p.stdout + p.stderr


def fake(answers, mail=MAIL):
    """A gateway with a scripted milter that is recorded; one message."""
    m = FakeMilter(answers)
    g = Gateway(sink.port, chain=("access", "odd"), milters='milter "odd" '
                f'{{ endpoints = {{ "{m.endpoint()}" }} record = "rec" '
                'timeout = { "command=2s" } }')
    with g as gate:
        c = Client(gate)
        reply = c.send(mail)
        c.say("QUIT")
        c.close()
        f, = recordings(gate.dir + "/rec", 1)
        data = open(f, "rb").read()
    m.close()
    return reply, data


def play(data, answers, *more):
    m = FakeMilter(answers)
    name = f"/tmp/milldam-replay.{os.getpid()}"
    with open(name, "wb") as f:
        f.write(data)
    try:
        return mill("replay", name, "--to", m.endpoint(), *more)
    finally:
        os.unlink(name)
        m.close()


Y = packet(b"y", b"550 5.7.1 no\0")


@tap.test("other verdicts at each stage are found")
def _():
    reply, data = fake({})
    assert reply.startswith("250"), reply
    p = play(data, {})
    assert (p.returncode, p.stdout) == (0, "0 differences\n"), p.stdout
    for stage, word in (("C", "connect"), ("H", "helo"), ("M", "mail"),
                        ("R", "rcpt"), ("T", "data"), ("L", "header"),
                        ("N", "end-of-header"), ("B", "body"),
                        ("E", "end-of-message")):
        p = play(data, {stage: Y})
        assert p.returncode == 1, (stage, p.stdout)
        want = "recorded continue, now reply \"550 5.7.1 no\"\n"
        assert any(want.strip() in line and word in line
                   for line in p.stdout.splitlines()), p.stdout


@tap.test("a lost refusal, another text, a dead and a silent milter are found")
def _():
    reply, data = fake({"E": Y})
    assert reply == "550 5.7.1 no", reply
    assert play(data, {"E": Y}).returncode == 0
    p = play(data, {})
    assert p.returncode == 1 and "now continue" in p.stdout, p.stdout
    p = play(data, {"E": packet(b"y", b"550 5.7.1 never\0")})
    assert p.returncode == 1 and "5.7.1 never" in p.stdout, p.stdout
    p = play(data, {"E": "close"})
    assert p.returncode == 1 and "now no answer" in p.stdout, p.stdout
    p = play(data, {"E": None}, "--timeout", "1")
    assert p.returncode == 1 and "now no answer" in p.stdout, p.stdout
    p = play(data, {"O": packet(b"c")})
    assert p.returncode == 1 and "now none" in p.stdout, p.stdout


@tap.test("a much slower answer is another timing class")
def _():
    def slow(_):
        time.sleep(1.2)
        return packet(b"c")
    _, data = fake({})
    p = play(data, {"E": slow})
    assert p.returncode == 1 and "now under 10 s" in p.stdout, p.stdout
    assert play(data, {"E": slow}, "--no-timing").returncode == 0


@tap.test("a recording over its bound is cut, the mail is not")
def _():
    n = len(sink.messages)
    big = MAIL + b"0123456789abcdef\r\n" * 600000
    reply, data = fake({}, big)
    assert reply.startswith("250"), reply
    assert len(sink.wait(n + 1, 10)) == n + 1
    assert sink.messages[-1].content.endswith(big)
    assert 7 << 20 < len(data) <= 8 << 20 and data.endswith(b"cut")
    p = play(data, {})
    assert p.returncode == 0 and "cut off" in p.stderr, p.stdout + p.stderr


@tap.test("what is no recording, and no milter, is refused")
def _():
    _, data = fake({})
    for bad in (b"", b"x" * 100, data[:40], data[:-30] + b"\xff" * 30):
        p = play(bad, {})
        assert p.returncode == 65 and p.stdout == "", (bad[:40], p.stdout)
    name = f"/tmp/milldam-replay.{os.getpid()}"
    with open(name, "wb") as f:
        f.write(data)
    assert mill("replay", name, "--to", "unix:/nowhere").returncode == 69
    os.unlink(name)
    assert mill("replay", name, "--to", "unix:/x").returncode == 65
    assert mill("replay").returncode == 64


tap.run()
