# SPDX-License-Identifier: ISC
"""quarantine - held messages: shown, deleted, let go, and never lost"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, wait_for, without_trace  # noqa: E402
from held import HEAD, Held, listed, release, send  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()


@tap.test("the list and one message show who held it and why, and the header")
def _():
    with Held(sink.port) as gate:
        send(gate, rcpts=("b@to.test", "c@to.test"))
        m = listed(gate, 1)[0]
        assert m["state"] == "held" and m["hold_by"] == "odd", m
        assert m["reason"] == "looks odd: score 7.5", m
        assert m["sender"] == "a@from.test"
        assert [r["address"] for r in m["recipients"]] == [
            "b@to.test", "c@to.test"]
        assert {r["state"] for r in m["recipients"]} == {"waiting"}
        shown = gate.ctl_json("queue", "show", m["id"])
        assert shown["header"].endswith(HEAD[:-2].decode()), shown
        assert shown["client"] == "127.0.0.1"
        assert shown["record"]["outcome"] == "held", shown
        why = gate.ctl_json("explain", m["id"])
        assert "looks odd" in str(why), why
        text = gate.ctl("queue", "list")
        assert text.returncode == 0 and "looks odd" in text.stdout
        assert "held" in gate.ctl("queue", "show", m["id"]).stdout
        assert f"{m['id']}: held: by=odd, reason=looks odd" in gate.log_text()
        status = gate.ctl_json("status")
        assert "'held': 1" in str(status), status
        assert gate.ctl("queue", "show", "nothing").returncode == 1
        assert gate.ctl("queue", "release", "nothing").returncode == 1
        assert gate.ctl("queue", "delete", "nothing").returncode == 1
        assert not sink.messages


@tap.test("the quarantine holds what a milter caught, not what we hold")
def _():
    with Held(sink.port) as gate:
        send(gate, 2)
        ids = [m["id"] for m in listed(gate, 2)]
        caught = gate.ctl_json("quarantine", "list")
        assert [m["id"] for m in caught] == ids, caught
        assert caught[0]["hold_by"] == "odd"
        text = gate.ctl("quarantine", "list").stdout
        assert "HELD BY" in text and "looks odd: score 7.5" in text, text
        shown = gate.ctl("quarantine", "show", ids[0]).stdout
        assert "Subject: held" in shown, shown
        assert "outcome" in shown and "odd" in shown, shown
        assert gate.ctl_json("quarantine", "delete", ids[0]) == {"changed": 1}
        assert [m["id"] for m in gate.ctl_json("quarantine", "list")] == [
            ids[1]]
        p = gate.ctl("quarantine", "show", "nothing")
        assert p.returncode == 1 and "not in quarantine" in p.stderr, p
        gate.ctl("queue", "delete", "all")
        listed(gate, 0)
        assert gate.ctl("quarantine", "list").stdout == \
            "The quarantine is empty.\n"
    with Gateway(sink.port) as gate:
        gate.ctl("pause", "delivery")
        send(gate)
        m = listed(gate, 1)[0]
        gate.ctl("queue", "hold", m["id"])
        assert gate.ctl_json("quarantine", "list") == []
        assert gate.ctl("quarantine", "delete", m["id"]).returncode == 1
        assert gate.ctl("quarantine", "release", m["id"]).returncode == 1
        listed(gate, 1)
        gate.ctl("queue", "delete", "all")


@tap.test("release delivers to the byte, delete forgets, the rest stays")
def _():
    with Held(sink.port) as gate:
        n = len(sink.messages)
        send(gate, 4)
        ids = [m["id"] for m in listed(gate, 4)]
        release(gate, ids[1])
        assert len(sink.wait(n + 1, 10)) == n + 1
        assert without_trace(sink.messages[-1].content) == HEAD + b"x\r\n"
        assert ids[1].encode() in sink.messages[-1].content
        assert gate.ctl_json("queue", "delete", ids[2]) == {"changed": 1}
        assert [m["id"] for m in listed(gate, 2)] == [ids[0], ids[3]]
        assert gate.ctl_json("queue", "flush") == {"changed": 0}
        p = gate.ctl("queue", "release", ids[0])
        assert p.returncode == 1 and "quarantine release" in p.stderr, p
        assert gate.ctl_json("queue", "release", "all") == {"changed": 0}
        assert gate.ctl_json("quarantine", "release", "all") == {
            "changed": 2, "kept": 0}
        assert len(sink.wait(n + 3, 10)) == n + 3
        listed(gate, 0)
        time.sleep(0.2)
        assert len(sink.messages) == n + 3


@tap.test("held mail survives a stop and kill -9, and stays held")
def _():
    with Held(sink.port) as gate:
        n = len(sink.messages)
        send(gate, 3)
        before = listed(gate, 3)
        gate.stop()
        gate.start()
        assert listed(gate, 3) == before
        assert gate.ctl_json("queue", "delete", before[0]["id"]) == \
            {"changed": 1}
        time.sleep(0.2)  # an outcome is synced within 50 ms
        gate.kill()
        gate.start()
        assert listed(gate, 2) == before[1:]
        assert len(sink.messages) == n
        os.kill(gate.pid("queue.0"), signal.SIGKILL)
        assert wait_for(lambda: gate.ctl("queue", "list").returncode == 0)
        assert listed(gate, 2) == before[1:]
        assert gate.ctl("quarantine", "release", "all").returncode == 0
        assert len(sink.wait(n + 2, 10)) == n + 2


@tap.test("mail in the queue can be held, released and deleted by command")
def _():
    with Gateway(sink.port) as gate:
        n = len(sink.messages)
        gate.ctl("pause", "delivery")
        send(gate, 3)
        ids = [m["id"] for m in listed(gate, 3)]
        assert gate.ctl_json("queue", "hold", ids[0]) == {"changed": 1}
        assert gate.ctl_json("queue", "hold", ids[0]) == {"changed": 0}
        assert gate.ctl_json("queue", "delete", ids[1]) == {"changed": 1}
        gate.ctl("resume", "delivery")
        assert len(sink.wait(n + 1, 10)) == n + 1
        m = listed(gate, 1)[0]
        assert m["id"] == ids[0] and m["reason"] == "held by command", m
        gate.stop()
        gate.start()
        assert listed(gate, 1)[0]["state"] == "held"
        assert gate.ctl_json("queue", "release", ids[0]) == {"changed": 1}
        assert len(sink.wait(n + 2, 10)) == n + 2
        assert "deleted" in gate.log_text()


def sizes(gate):
    """Of the spool's files; one may go while they are looked at."""
    found = []
    for folder, _, files in os.walk(gate.dir + "/spool"):
        for name in files:
            try:
                found.append(os.path.getsize(os.path.join(folder, name)))
            except FileNotFoundError:
                pass
    return found


@tap.test("a large held body is a file that goes with its message")
def _():
    big = HEAD + b"0123456789abcdef\r\n" * 30000
    with Held(sink.port, extra="limits { inline-size = 64K }\n") as gate:
        n = len(sink.messages)

        def bodies():
            """Files that are larger than a message but no segment."""
            return [n for n in sizes(gate) if len(big) < n < 2 * len(big)]
        send(gate, 2, big)
        ids = [m["id"] for m in listed(gate, 2)]
        assert len(bodies()) == 2, bodies()
        gate.stop()
        gate.start()
        gate.ctl("queue", "delete", ids[0])
        release(gate, ids[1])
        assert len(sink.wait(n + 1, 10)) == n + 1
        assert without_trace(sink.messages[-1].content) == big
        assert wait_for(lambda: not bodies(), 10), bodies()


@tap.test("held mail does not keep the journal of all that comes after it")
def _():
    body = HEAD + b"0123456789abcdef\r\n" * 10000
    held = Held(sink.port, extra="queue { segment-size = 1M }\n")
    with held as gate:
        n = len(sink.messages)

        def size():
            return sum(sizes(gate))
        send(gate, 2)
        ids = [m["id"] for m in listed(gate, 2)]
        held.fake.answers = {}
        c = Client(gate)
        c.say("EHLO client.test")
        for _ in range(200):
            assert c.send(body, ehlo=False).startswith("250 ")
        assert len(sink.wait(n + 200, 30)) == n + 200
        # 36 MB went through; how much stays for reuse is how far the
        # deliveries were behind at the worst
        assert wait_for(lambda: size() < 18 << 20, 10), size()
        release(gate, ids[0])
        assert len(sink.wait(n + 201, 10)) == n + 201
        assert without_trace(sink.messages[-1].content) == HEAD + b"x\r\n"
        gate.kill()
        gate.start()
        m = listed(gate, 1)[0]
        assert m["id"] == ids[1] and m["state"] == "held", m
        assert m["hold_by"] == "odd" and "looks odd" in m["reason"], m
        release(gate, ids[1])
        assert len(sink.wait(n + 202, 10)) == n + 202
        assert without_trace(sink.messages[-1].content) == HEAD + b"x\r\n"


try:
    tap.run()
finally:
    sink.close()
