# SPDX-License-Identifier: ISC
# slow
"""milter - milters that are missing, die or refuse; run-time modes"""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, wait_for, without_trace  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: m\r\nX-Old: 1\r\nX-Old: 2\r\n\r\nx\r\n"


def stopped(pid):
    """All of its threads are: a signal does not reach them at once."""
    states = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as f:
            states.append(f.read().rpartition(")")[2].split()[0])
    return set(states) == {"T"}


@tap.test("a missing milter answers 451 by default, and nothing is queued")
def _():
    with Gateway(sink.port, chain=("access", "gone"), milters='milter "gone" '
                 '{ endpoints = { "unix:/nonexistent/sock" } }') as gate:
        n = len(sink.messages)
        got = Client(gate).send(MAIL)
        assert got.startswith("451"), got
        assert len(sink.messages) == n
        assert Client(gate).send(MAIL).startswith("451")


@tap.test("on-failure = accept goes on without it, and says so in the log")
def _():
    with Gateway(sink.port, chain=("access", "gone"), milters='milter "gone" '
                 '{ endpoints = { "unix:/nonexistent/sock" } '
                 'on-failure = accept }') as gate:
        n = len(sink.messages)
        assert Client(gate).send(MAIL).startswith("250 ")
        # the postmaster is told by mail: what has no sender is not ours
        assert wait_for(lambda: any(
            m.sender == "a@from.test" for m in sink.messages[n:]))
        assert wait_for(lambda: any(
            m.sender == "" and b"gone" in m.content
            for m in sink.messages[n:]))
        assert "milter=gone: fail-open" in gate.log_text()


@tap.test("without an answer from the authoriser every recipient is refused")
def _():
    with Gateway(sink.port, extra='milter "access" '
                 '{ timeout = { "command=2s" } }') as gate:
        c = Client(gate)
        c.say("EHLO x.test")
        c.say("MAIL FROM:<a@from.test>")
        pid = gate.pid("milter.access")
        os.kill(pid, signal.SIGSTOP)
        assert wait_for(lambda: stopped(pid))
        try:
            got = c.say("RCPT TO:<b@to.test>")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert got.startswith("451"), got


@tap.test("mail that comes while a milter of ours restarts waits for it")
def _():
    with Gateway(sink.port) as gate:
        n = len(sink.messages)
        for _ in range(3):
            os.kill(gate.pid("milter.access"), signal.SIGKILL)
            got = Client(gate).send(MAIL)
            assert got.startswith("250 "), got
        assert len(sink.wait(n + 3)) == n + 3


@tap.test("header edits of the rewrite milter reach the next hop")
def _():
    conf = ('header "add" { name = "X-New" action = "add" value = "n" }\n'
            'header "del" { name = "X-Old" action = "delete" }\n')
    with Gateway(sink.port, chain=("access", "rewrite"),
                 milters='milter "rewrite" { run = "milldam-rewrite" '
                 'settings = "rewrite.conf" }',
                 files={"rewrite.conf": conf}) as gate:
        n = len(sink.messages)
        reply = Client(gate).send(MAIL)
        assert reply.startswith("250 "), reply
        got = without_trace(sink.wait(n + 1)[-1].content)
        assert got == b"Subject: m\r\nX-New: n\r\n\r\nx\r\n", got
        told = gate.ctl("explain", reply.split()[2]).stdout
        assert "edit     add-header X-New: n\n" in told, told


@tap.test("milter off and enforce take effect at once and survive a restart")
def _():
    with Gateway(sink.port, chain=("access", "gone"), milters='milter "gone" '
                 '{ endpoints = { "unix:/nonexistent/sock" } }') as gate:
        refused = gate.ctl("milter", "access", "off")
        assert refused.returncode != 0 and "authorises" in refused.stderr
        assert gate.ctl("milter", "gone", "off").returncode == 0
        assert Client(gate).send(MAIL).startswith("250 ")
        gate.stop()
        gate.start()
        assert Client(gate).send(MAIL).startswith("250 ")
        assert gate.ctl("milter", "gone", "enforce").returncode == 0
        assert Client(gate).send(MAIL).startswith("451")


try:
    tap.run()
finally:
    sink.close()
