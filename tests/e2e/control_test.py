# SPDX-License-Identifier: ISC
# slow
"""control - what milldamctl tells people, and what to do when it cannot"""
import json
import os
import pty
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import INST, Client, Gateway, Tap, free_port, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: c\r\n\r\nx\r\n"
CTL = os.path.join(INST, "bin/milldamctl")


def on_terminal(*words, env=None):
    """What milldamctl prints when its output is a terminal."""
    main, other = pty.openpty()
    p = subprocess.Popen([CTL, "-s", gate.dir + "/run/control", *words],
                         stdin=subprocess.DEVNULL, stdout=other,
                         stderr=subprocess.PIPE,
                         env=dict(os.environ, **(env or {})))
    os.close(other)
    text = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        text += part
    os.close(main)
    p.communicate(timeout=20)
    return text.decode().replace("\r\n", "\n")


@tap.test("status: processes, milters and queue, in columns")
def _():
    assert Client(gate).send(MAIL).startswith("250 ")
    p = gate.ctl("status")
    assert p.returncode == 0 and p.stderr == "", p
    lines = p.stdout.splitlines()
    table = [line for line in lines if re.match(
        r"PROCESS|(receiver|queue|relay|lookup)\.0 |milter\.", line)]
    assert len(table) == 6, p.stdout
    at = table[0].index("STATE")
    assert all(line[at - 2:at] == "  " and line[at] != " "
               for line in table), table
    end = table[0].index("PID") + 3  # numbers are flush right
    assert all(line[end - 1].isdigit() for line in table[1:]), table
    milters = [line for line in lines if line.startswith(("MILTER", "access"))]
    assert len(milters) == 2 and "enforce" in milters[1], p.stdout
    assert re.search(r"^QUEUE .*delivery running$", p.stdout, re.M), p.stdout


@tap.test("status is coloured on a terminal, unless NO_COLOR is set")
def _():
    assert "\033[" not in gate.ctl("status").stdout
    text = on_terminal("status", env={"NO_COLOR": ""})
    assert "\033[32mrunning\033[0m" in text, text
    assert "\033[" not in on_terminal("status", env={"NO_COLOR": "1"})
    # colours do not move columns
    plain = re.sub("\033\\[[0-9;]*m", "", text)
    starts = {line.index("running") for line in plain.splitlines()
              if re.match(r"(receiver|queue|relay|lookup)\.0 ", line)}
    assert len(starts) == 1, plain


@tap.test("--json is one JSON value for every command that shows something")
def _():
    gate.ctl("pause", "delivery")
    ident = Client(gate).send(MAIL).split()[2]
    for words in (("status",), ("health",), ("probe",), ("queue", "list"),
                  ("queue", "show", ident), ("explain", ident)):
        p = gate.ctl("--json", *words)
        assert p.returncode == 0, (words, p)
        json.loads(p.stdout)
        assert "\033[" not in on_terminal("--json", *words)
    assert gate.ctl_json("resume", "delivery") == {"ok": True}
    assert wait_for(lambda: gate.ctl_json("queue", "list") == [])


@tap.test("the queue's tables show who waits for whom, and why")
def _():
    gate.ctl("pause", "delivery")
    ident = Client(gate).send(MAIL, rcpts=["b@to.test", "c@to.test"]).split()[2]
    text = gate.ctl("queue", "list").stdout
    assert re.search(rf"^{ident}.* a@from.test +b@to.test \(\+1\)", text,
                     re.M), text
    assert "1 message\n" in text
    shown = gate.ctl("queue", "show", ident).stdout
    assert "Subject: c" in shown and "c@to.test" in shown, shown
    assert gate.ctl("queue", "hold", ident).stdout == "1 changed\n"
    assert "held" in gate.ctl("queue", "list").stdout
    assert gate.ctl("queue", "delete", ident).stdout == "1 changed\n"
    assert gate.ctl("queue", "list").stdout == "The queue is empty.\n"
    gate.ctl("resume", "delivery")


@tap.test("what it cannot do it says on stderr, with a status, and what to do")
def _():
    for words, status, want in (
            (("frob",), 1, "unknown command.*milldamctl -h"),
            (("queue", "frob"), 1, "unknown command.*milldamctl -h"),
            (("queue", "show", "nosuchid"), 1, "unknown id.*queue list"),
            (("explain", "nosuchid"), 1, "unknown id.*queue list"),
            (("milter", "ghost", "off"), 1, "no such milter.*status"),
            (("milter", "access", "sideways"), 1,
             "enforce, shadow, off or drain"),
            (("pause", "breathing"), 1, "accept or delivery"),
            (("queue", "show", "a b"), 64, "blanks")):
        p = gate.ctl(*words)
        assert p.returncode == status and p.stdout == "", (words, p)
        assert re.search(want, p.stderr), (words, p.stderr)
        assert len(p.stderr.splitlines()) == 1, (words, p.stderr)
    p = gate.ctl()
    assert p.returncode == 64 and "usage:" in p.stderr, p
    p = subprocess.run([CTL, "-s", "/nonexistent/control", "status"],
                       capture_output=True, text=True, timeout=20)
    assert p.returncode == 69 and "is milldam running?" in p.stderr, p


@tap.test("a client that says nothing, or too much, costs nobody else anything")
def _():
    silent = []
    for _ in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.connect(gate.dir + "/run/control")
        silent.append(s)
    s = socket.socket(socket.AF_UNIX)
    s.connect(gate.dir + "/run/control")
    s.sendall(b"x" * 5000)
    assert b"too long" in s.recv(1000)
    s.close()
    s = socket.socket(socket.AF_UNIX)
    s.connect(gate.dir + "/run/control")
    s.sendall(b"status\n")
    s.close()  # gone before the answer
    assert gate.ctl("status").returncode == 0
    for s in silent:
        s.close()


@tap.test("health: 1 and the name while a process is missing, then 0")
def _():
    assert gate.ctl("health").returncode == 0
    gate.ctl("pause", "accept")
    assert Client(gate).greeting.startswith("421")
    gate.ctl("resume", "accept")
    assert wait_for(gate.answers)
    with Gateway(sink.port, chain=("access", "lost"), milters='milter "lost" '
                 '{ run = "no-such-program" }') as other:
        p = other.ctl("health")
        assert p.returncode == 1 and "milter.lost" in p.stdout, p
        p = other.ctl("status")
        assert p.returncode == 1 and re.search(
            r"^milter\.lost +down", p.stdout, re.M), p.stdout


@tap.test("a program that is not there: 451, and the log says which")
def _():
    with Gateway(sink.port, chain=("access", "lost"), milters='milter "lost" '
                 '{ run = "no-such-program" }') as other:
        got = Client(other).send(MAIL)
        assert got.startswith("451"), got
        assert re.search(r"no-such-program: No such file", other.log_text())
        assert "milter=lost" in other.log_text()
        assert other.ctl_json("queue", "list") == []


@tap.test("a missing milter socket: 451, and the log names milter and socket")
def _():
    for endpoint in ("unix:/nonexistent/milter.sock",
                     f"inet:{free_port()}@127.0.0.1"):
        with Gateway(sink.port, chain=("access", "away"), milters='milter '
                     f'"away" {{ endpoints = {{ "{endpoint}" }} }}') as other:
            got = Client(other).send(MAIL)
            assert got.startswith("451 4.7.1"), got
            log = other.log_text()
            assert "milter=away" in log and endpoint in log, log
            assert other.ctl_json("queue", "list") == []


@tap.test("a start with a bad, missing or unreadable configuration: 78, where")
def _():
    path = gate.dir + "/wrong.conf"
    for text, want in (("hostname = \"x\n", "wrong.conf:1:"),
                       ("policy {\n", "wrong.conf:"),
                       ("\0\0\0", "wrong.conf:1:"),
                       ('include "nosuch.policy"\n', "wrong.conf:1:"),
                       (None, "No such file"), ("folder", "directory")):
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.exists(path):
            os.remove(path)
        if text == "folder":
            os.mkdir(path)
        elif text is not None:
            with open(path, "w") as f:
                f.write(text)
        p = subprocess.run([INST + "/sbin/milldam", "-f", path],
                           capture_output=True, text=True, timeout=20)
        assert p.returncode == 78 and want in p.stderr, (text, p)


@tap.test("a second gateway on the same address ends with 77 and says which")
def _():
    p = subprocess.run([INST + "/sbin/milldam", "-f", gate.conf],
                       capture_output=True, text=True, timeout=30)
    assert p.returncode == 77, p
    assert f"127.0.0.1:{gate.port}" in p.stderr and "in use" in p.stderr, p
    assert Client(gate).send(MAIL).startswith("250 ")
    assert gate.ctl("status").returncode == 0


gate = Gateway(sink.port)
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
