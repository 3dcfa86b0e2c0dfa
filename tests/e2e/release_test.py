# SPDX-License-Identifier: ISC
"""release - what a milter held goes through the others once more"""
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import INST, Client, Tap, wait_for, without_trace  # noqa: E402
from held import HEAD, HOLD, Held, kept, listed, release, send  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
KILLS = int(os.environ.get("RELEASE_KILLS", "16"))
EDITS = (packet(b"h", b"X-Edit\0once\0") + packet(b"b", b"new body\r\n") +
         packet(b"e", b"<edited@from.test>\0") +
         packet(b"+", b"<more@to.test>\0") + packet(b"-", b"<c@to.test>\0"))


def told(fake):
    """What a session is told, without macros and ends."""
    return [(c, d) for c, d in fake.seen if c not in b"ODQKA"]


def ids(gate):
    return [m["id"] for m in gate.ctl_json("queue", "list")]


def pid_of(gate, name):
    return next(p["pid"] for p in gate.ctl_json("status")["processes"]
                if p["name"] == name)


@tap.test("the other filters see all as it was, and edit it once")
def _():
    edit = FakeMilter({"E": EDITS + packet(b"c")})
    with Held(sink.port, others={"edit": edit}) as gate:
        n = len(sink.messages)
        c = Client(gate)
        c.say("EHLO client.test")
        c.say("MAIL FROM:<a@from.test> BODY=8BITMIME SIZE=300")
        c.say("RCPT TO:<b@to.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o@to.test")
        c.say("RCPT TO:<c@to.test>")
        c.say("DATA")
        body = HEAD + b"gr\xc3\xbc\xc3\x9fe\r\n..\r\n" + 200 * b"line\r\n"
        assert c.say(body.replace(b"\r\n.", b"\r\n..") + b".").startswith(
            "250 ")
        m = listed(gate, 1)[0]
        # kept as it was received, whatever "edit" had made of it
        assert m["sender"] == "a@from.test" and m["hold_by"] == "odd", m
        assert [r["address"] for r in m["recipients"]] == [
            "b@to.test", "c@to.test"], m
        assert "X-Edit" not in gate.ctl("quarantine", "show", m["id"]
                                        ).stdout.split("Subject:")[1]
        before = told(edit)
        assert b"".join(d for c, d in before if c == b"B") == body[len(HEAD):]
        assert not any(b"milldam_replay" in d for _, d in edit.seen)
        edit.seen.clear()
        asked = len(gate.held.fake.seen)
        as_ids = release(gate, m["id"])
        assert len(as_ids) == 1 and as_ids[0] != m["id"], as_ids
        got = sink.wait(n + 1, 10)[n]
        assert told(edit) == before
        assert any(b"{milldam_replay}\x001\0" in d for _, d in edit.seen)
        assert len(gate.held.fake.seen) == asked  # it is passed by
        assert got.sender == "edited@from.test"
        assert sorted(got.rcpts) == ["b@to.test", "more@to.test"], got.rcpts
        assert without_trace(got.content) == \
            HEAD[:-2] + b"X-Edit: once\r\n\r\nnew body\r\n", got.content
        assert m["id"].encode() in got.content  # received once, then
        listed(gate, 0)


@tap.test("one that was released says so; explain shows both")
def _():
    with Held(sink.port) as gate:
        n = len(sink.messages)
        send(gate, 2)
        old, other = [m["id"] for m in listed(gate, 2)]
        new, = release(gate, old)
        sink.wait(n + 1, 10)
        assert f"{old}: released as {new}, without=odd" in gate.log_text()

        def says():
            for words in ("release", "show", "delete"):
                p = gate.ctl("quarantine", words, old)
                assert p.returncode == 1, p
                assert f"released as {new}" in p.stderr, p
            for i in (old, new):
                found = gate.ctl_json("explain", i)
                assert sorted(r["id"] for r in found) == sorted([old, new])
                after = next(r for r in found if r["id"] == new)
                assert after["released_from"] == old, after
                assert after["without"] == "odd"
                assert after["outcome"] == "queued"
                assert [x["name"] for x in after["milters"]
                        if x["mode"] == "enforce"][0] == "access"
        says()
        gate.stop()
        gate.start()
        says()
        text = gate.ctl("explain", new).stdout
        assert f"was held as  {old}" in text and "without  odd" in text, text
        assert len(gate.ctl_json("explain", other)) == 1
        assert "unknown" not in str(gate.ctl_json("explain", other))
        p = gate.ctl("quarantine", "release", "0000000000000000")
        assert p.returncode == 1 and "as" not in p.stderr.split(";")[0], p
        assert ids(gate) == [other]
        gate.ctl("quarantine", "delete", other)


@tap.test("whatever another filter says, it stays held, with the reason")
def _():
    other = FakeMilter()
    with Held(sink.port, others={"after": other}) as gate:
        n = len(sink.messages)
        send(gate)
        m = listed(gate, 1)[0]["id"]
        for step, answer, what in (
                ("E", packet(b"y", b"550 5.7.1 not this\0"), "not this"),
                ("E", packet(b"r"), "550"), ("E", packet(b"t"), "451"),
                ("E", packet(b"d"), "would be discarded"),
                ("E", packet(b"q", b"again\0") + packet(b"c"), "again"),
                ("E", packet(b"-", b"<b@to.test>\0") + packet(b"c"),
                 "no recipient"),
                ("R", packet(b"y", b"550 5.1.1 gone\0"), "<b@to.test>: 550"),
                ("R", packet(b"d"), "would be discarded"),
                ("M", packet(b"r"), "550"), ("C", packet(b"r"), "5"),
                ("H", packet(b"t"), "4"), ("T", packet(b"r"), "5"),
                ("B", packet(b"y", b"451 4.7.1 come again\0"), "come again"),
                ("E", packet(b"y", b"421 4.7.0 off\0"), "off"),
                ("E", "close", "451")):
            other.answers = {step: answer}
            got = kept(gate, m, what)
            assert got["reason"].startswith("not released: "), got
            assert what in got["reason"], got
            assert got["hold_by"] == "odd", got
        assert "milter after" in got["reason"], got
        assert sum(r["outcome"] == "kept" and r["released_from"] == m
                   for r in gate.ctl_json("explain", m)) > 5
        gate.kill()
        gate.start()
        assert listed(gate, 1)[0]["reason"] == got["reason"]
        assert "nothing" in gate.ctl("quarantine", "release", m, "without",
                                     "nothing").stderr
        assert "authorises" in gate.ctl("quarantine", "release", m,
                                        "without", "access").stderr
        assert len(sink.messages) == n
        # the admin may pass another one by, once the reason is known
        release(gate, m, "without", "after")
        assert len(sink.wait(n + 1, 10)) == n + 1


@tap.test("all that held it are passed by; the authoriser is asked again")
def _():
    two = FakeMilter({"E": packet(b"q", b"me too\0") + packet(b"c")})
    with Held(sink.port, others={"after": two}) as gate:
        n = len(sink.messages)
        send(gate)
        m = listed(gate, 1)[0]
        assert m["hold_by"] == "odd, after", m
        with open(gate.dir + "/access.conf", "w") as f:
            f.write("relay-networks = {192.0.2.1}\n")
        assert gate.ctl("reload").returncode == 0
        assert wait_for(lambda: "550" in gate.ctl(
            "quarantine", "release", m["id"]).stderr, 10)
        assert listed(gate, 1)[0]["id"] == m["id"]
        with open(gate.dir + "/access.conf", "w") as f:
            f.write("relay-networks = {127.0.0.0/8}\n")
        assert gate.ctl("reload").returncode == 0
        assert wait_for(lambda: gate.ctl(
            "quarantine", "release", m["id"]).returncode == 0, 10)
        assert len(sink.wait(n + 1, 10)) == n + 1
        assert len(two.seen) and listed(gate, 0) == []


@tap.test("a large one, and one for recipients with chains of their own")
def _():
    mark = FakeMilter({"E": packet(b"h", b"X-Mark\0yes\0") + packet(b"c")})
    rule = ('policy "inbound" { rule "b" { recipient = { "b@*" } '
            'skip = { "mark" } } }\n')
    with Held(sink.port, others={"mark": mark},
              extra=rule + "limits { inline-size = 64K }\n") as gate:
        for lines in (1, 2000, 30000):
            body = HEAD + b"0123456789abcdef\r\n" * lines
            n = len(sink.messages)
            send(gate, 1, body, rcpts=("b@to.test", "m@to.test"))
            first = [m["id"] for m in listed(gate, 2)]
            as_ids = [release(gate, m)[0] for m in first]
            assert len(set(as_ids + first)) == 4
            got = sink.wait(n + 2, 20)[n:]
            plain = next(m for m in got if m.rcpts == ["b@to.test"])
            marked = next(m for m in got if m.rcpts == ["m@to.test"])
            assert without_trace(plain.content) == body
            assert without_trace(marked.content) == body.replace(
                b"held\r\n", b"held\r\nX-Mark: yes\r\n", 1)
        # a policy that now parts what was one group when it was held
        with open(gate.conf) as f:
            conf = f.read()
        with open(gate.conf, "w") as f:
            f.write(conf.replace('"b@*"', '"nobody@*"'))
        assert gate.ctl("reload").returncode == 0
        n = len(sink.messages)
        send(gate, 1, rcpts=("b@to.test", "m@to.test", "b@other.test"))
        m = listed(gate, 1)[0]["id"]
        with open(gate.conf, "w") as f:
            f.write(conf)
        assert gate.ctl("reload").returncode == 0
        as_ids = release(gate, m)
        assert len(as_ids) == 2 and as_ids[1] == as_ids[0] + "-2", as_ids
        got = sink.wait(n + 2, 20)[n:]
        assert sorted((sorted(m.rcpts), b"X-Mark" in m.content)
                      for m in got) == [
            (["b@other.test", "b@to.test"], False), (["m@to.test"], True)]
        # one part of it is refused: delivered what can be, held the rest
        with open(gate.conf, "w") as f:
            f.write(conf.replace('"b@*"', '"nobody@*"'))
        assert gate.ctl("reload").returncode == 0
        send(gate, 1, rcpts=("b@to.test", "m@to.test"))
        m = listed(gate, 1)[0]["id"]
        with open(gate.conf, "w") as f:
            f.write(conf)
        assert gate.ctl("reload").returncode == 0
        mark.answers = {"E": packet(b"r")}
        as_ids = release(gate, m)
        assert len(sink.wait(n + 3, 20)) == n + 3
        rest = listed(gate, 1)[0]
        assert rest["id"] in as_ids and rest["hold_by"] == "odd, mark", rest
        assert [r["address"] for r in rest["recipients"]] == ["m@to.test"]
        release(gate, rest["id"])
        assert sink.wait(n + 4, 20)[n + 3].rcpts == ["m@to.test"]
        listed(gate, 0)


class Slow:
    """A filter that says at which step it is, and waits."""

    def __init__(self, step):
        self.at = threading.Event()
        self.go = threading.Event()
        self.fake = FakeMilter({step: self.wait})
        self.on = False

    def wait(self, conn):
        if self.on:
            self.at.set()
            self.go.wait(30)
        return packet(b"c")


def begin(gate, *words):
    return subprocess.Popen(
        [os.path.join(INST, "bin/milldamctl"), "-s", gate.dir + "/run/control",
         *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)


@tap.test("while it is in the filters' hands any process may be killed")
def _():
    slow = Slow("E")
    with Held(sink.port, others={"after": slow.fake}) as gate:
        n = len(sink.messages)
        send(gate)
        m = listed(gate, 1)[0]["id"]
        slow.on = True
        for who in ("receiver", "queue.0", "all"):
            slow.at.clear()
            slow.go.clear()
            p = [begin(gate, "quarantine", "release", m)]

            def asks():
                """True once the filter is; receivers may be starting."""
                if not slow.at.wait(0.5) and p[0].poll() is not None:
                    p[0] = begin(gate, "quarantine", "release", m)
                return slow.at.is_set()
            assert wait_for(asks)
            for words in (("quarantine", "release", m),
                          ("quarantine", "delete", m)):
                q = gate.ctl(*words)
                assert "being released" in q.stderr, q
            assert gate.ctl_json("queue", "delete", m) == {"changed": 0}
            if who == "all":
                gate.kill()
            elif who == "queue.0":
                os.kill(pid_of(gate, who), signal.SIGKILL)
            else:
                for x in gate.ctl_json("status")["processes"]:
                    if x["name"].startswith(who):
                        os.kill(x["pid"], signal.SIGKILL)
            assert p[0].wait(20) != 0
            slow.go.set()
            if who == "all":
                gate.start()
            assert wait_for(lambda: gate.ctl("queue", "list").returncode == 0)
            assert listed(gate, 1)[0]["id"] == m
        slow.on = False
        assert len(sink.messages) == n
        assert wait_for(lambda: gate.ctl(
            "quarantine", "release", m).returncode == 0, 20)
        assert len(sink.wait(n + 1, 10)) == n + 1
        listed(gate, 0)
        gate.stop()
        gate.start()
        time.sleep(0.3)
        assert len(sink.messages) == n + 1 and listed(gate, 0) == []


@tap.test("killed at any moment it is held or queued, never both nor neither")
def _():
    rng = random.Random(int(os.environ.get("RELEASE_SEED", "1")))
    with Held(sink.port) as gate:
        n = len(sink.messages)
        gate.ctl("pause", "delivery")
        send(gate, KILLS)
        left = [m["id"] for m in listed(gate, KILLS)]
        done = 0
        for i in range(KILLS):
            queue = pid_of(gate, "queue.0")
            p = begin(gate, "quarantine", "release", left[0])
            time.sleep(rng.random() * 0.008)
            os.kill(queue, signal.SIGKILL)
            gate.kill()
            said = p.wait(20) == 0
            gate.start()
            gate.ctl("pause", "delivery")
            found = listed(gate, KILLS)
            held = [m["id"] for m in found if m["state"] == "held"]
            gone = left[0] not in held
            assert held == left[gone:], (held, left)
            assert gone or not said  # what was told is so
            done += gone
            left = held
        print(f"# {KILLS} kills, {done} released before")
        gate.ctl("quarantine", "release", "all")
        found = listed(gate, KILLS)
        assert not any(m["state"] == "held" for m in found)
        gate.ctl("resume", "delivery")
        assert len(sink.wait(n + KILLS, 20)) == n + KILLS
        time.sleep(0.3)
        assert len(sink.messages) == n + KILLS


try:
    tap.run()
finally:
    sink.close()
