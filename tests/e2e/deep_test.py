# SPDX-License-Identifier: ISC
# slow
# plain build only
"""deep - 20000 messages in the queue: list, restart, memory, new mail"""
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: deep\r\n\r\nx\r\n"
MANY, SESSIONS, GROUP = 20000, 50, 20


def memory(pid):
    """Resident megabytes, the most so far."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f
                    if line.startswith("VmHWM")) / 1024


def load(k):
    """One session's share, pipelined; recipients of a dead domain."""
    c = Client(gate)
    c.say("EHLO deep.test")
    for i in range(0, MANY // SESSIONS, GROUP):
        c.sock.sendall(b"".join(
            b"MAIL FROM:<s%d@from.test>\r\nRCPT TO:<r%d@dead.test>\r\n"
            b"BDAT %d LAST\r\n%s" % (k, j, len(MAIL), MAIL)
            for j in range(i, i + GROUP)))
        for _ in range(3 * GROUP):
            got = c.reply()
            assert got.startswith("250 "), got
    c.close()


@tap.test("20000 messages for a dead site are accepted")
def _():
    threads = [threading.Thread(target=load, args=(k,))
               for k in range(SESSIONS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(gate.ctl_json("queue", "list")) == MANY


@tap.test("a mail to another site passes them at once")
def _():
    for _ in range(5):
        n = len(sink.messages)
        begin = time.monotonic()
        assert Client(gate).send(MAIL).startswith("250 ")
        assert len(sink.wait(n + 1, 10)) == n + 1
        assert time.monotonic() - begin < 2


@tap.test("all are listed, and the list costs no memory")
def _():
    queue = gate.pid("queue.0")
    before = memory(queue), memory(gate.proc.pid)
    for _ in range(3):
        assert len(gate.ctl_json("queue", "list")) == MANY
    after = memory(queue), memory(gate.proc.pid)
    assert after[0] < before[0] + 8, (before, after)
    assert after[1] < before[1] + 8, (before, after)


@tap.test("readers that do not read cost no memory, and time out")
def _():
    queue = gate.pid("queue.0")
    before = memory(queue), memory(gate.proc.pid)
    stuck = []
    for _ in range(12):
        s = socket.socket(socket.AF_UNIX)
        s.connect(gate.dir + "/run/control")
        s.sendall(b"queue list\n")
        stuck.append(s)
    time.sleep(3)
    after = memory(queue), memory(gate.proc.pid)
    assert after[0] < before[0] + 8, (before, after)
    assert after[1] < before[1] + 12 * 1.7, (before, after)
    assert len(gate.ctl_json("queue", "list")) == MANY
    assert Client(gate).send(MAIL).startswith("250 ")
    slow = stuck.pop()  # one that reads, slowly, gets all
    for s in stuck:
        s.close()
    got = b""
    while True:
        more = slow.recv(100000)
        if not more:
            break
        got += more
        time.sleep(0.01)
    slow.close()
    assert got.count(b'{"id"') == MANY, got.count(b'{"id"')
    assert len(gate.ctl_json("queue", "list")) == MANY


@tap.test("a restart with 20000 messages: seconds, none lost, mail flows")
def _():
    assert gate.stop() == 0
    begin = time.monotonic()
    gate.start()
    assert time.monotonic() - begin < 10
    assert len(gate.ctl_json("queue", "list")) == MANY
    assert memory(gate.pid("queue.0")) < 150
    n = len(sink.messages)
    assert Client(gate).send(MAIL).startswith("250 ")
    assert len(sink.wait(n + 1, 10)) == n + 1
    gate.kill()
    gate.start()
    assert len(gate.ctl_json("queue", "list")) == MANY


@tap.test("all are held, released and deleted by one command each")
def _():
    for word in ("hold", "release", "delete"):
        got = gate.ctl_json("queue", word, "all")
        assert got == {"changed": MANY}, (word, got)
    assert gate.ctl_json("queue", "list") == []
    assert Client(gate).send(MAIL).startswith("250 ")
    assert wait_for(lambda: gate.ctl_json("queue", "list") == [])


gate = Gateway(
    None, files={"table": "dead.test smtp:[127.0.0.9]:9\n"
                 f". smtp:[127.0.0.1]:{sink.port}\n"},
    route='mailertable = "text:DIR/table"',
    extra="limits { sessions-per-client = 100 commands = 100000 }\n")
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
