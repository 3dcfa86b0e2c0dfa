# SPDX-License-Identifier: ISC
# slow
"""balance - every recipient that was accepted is in exactly one place, by the
metrics, by the sink and by `queue list`: mail that is split in groups, refused
for some of them, held, released, deleted, returned; while processes are killed

What becomes of a recipient says its name: "plain" is delivered, "hold" and
"drop" by a filter of their chain, "no" refused by one (on-mixed), "bad" refused
by the next hop, "later" put off by it.

MILLDAM_BALANCE=N kills (9).
"""
import os
import random
import re
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402
from watched import Watched, balance, holds, in_queue, settled  # noqa: E402

KILLS = int(os.environ.get("MILLDAM_BALANCE", "9"))
VOID = 80  # senders who cannot be told: postmaster hears of 100 at a time
tap = Tap()
FILTERS = {"hold": packet(b"q", b"odd\0") + packet(b"c"),
           "drop": packet(b"d"),
           "no": packet(b"y", b"550 5.7.1 not for you\0")}
# By the client's address: 127.0.0.1 has the default, quarantine.
RULES = """policy "inbound" {
  rule "bounce"  { client = {127.0.0.2} on-mixed = bounce }
  rule "discard" { client = {127.0.0.3} on-mixed = discard }
  %s
}
"""


class From(Client):
    """A client at another loopback address."""

    def __init__(self, gate, address):
        self.sock = socket.create_connection(
            (gate.host, gate.port), 30, source_address=(address, 0))
        self.sock.settimeout(60)
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()


def kind(address):
    return address.split("-")[0]


class Patient(dict):
    """What the sink refuses, by the kind of address."""

    def get(self, address, default=None):
        return super().get(kind(address), default)


class Bed:
    """A gateway whose filters each work for their kind of recipient."""

    def __init__(self, extra=""):
        self.sink = Sink()
        self.sink.refuse_rcpt = Patient({
            "bad": "550 5.1.1 nobody", "later": "451 4.2.0 later",
            "void": "550 5.1.1 nobody"})
        self.filters = {k: FakeMilter({"E": v}) for k, v in FILTERS.items()}
        blocks = "".join(f'milter "{k}" {{ endpoints = {{ "{f.endpoint()}" }} }}\n'
                         for k, f in self.filters.items())
        rules = "".join(f'rule "not {k}" {{ recipient = {{ "!{k}-*@*" }} '
                        f'skip = {{ "{k}" }} }}\n  ' for k in FILTERS)
        self.gate = Watched(
            self.sink.port, chain=("access", *FILTERS), milters=blocks,
            extra=RULES % rules + extra)

    def __enter__(self):
        self.gate.start()
        assert wait_for(self.gate.up)
        return self

    def __exit__(self, *exc):
        self.gate.__exit__(*exc)
        self.sink.close()
        for f in self.filters.values():
            f.close()


def mail(n):
    return b"Subject: b\r\n\r\nnumber %d.\r\n" % n


def listed(gate):
    """{recipient: (state of its message, id)} of those that wait"""
    return {r["address"]: (m["state"], m["id"])
            for m in gate.ctl_json("queue", "list") if m["sender"]
            for r in m["recipients"] if r["state"] == "waiting"}


def returned(messages):
    """recipients that reports of non-delivery tell of, but for postmaster's"""
    return {x.decode() for m in messages if m.sender == ""
            for x in re.findall(rb"(?im)^Final-Recipient: *rfc822; *(\S+)",
                                m.content)}


def message_ids(messages):
    return {re.search(rb"(?im)^Message-ID: *(\S+)", m.content)[1]
            for m in messages}


@tap.test("groups: held, discarded, refused and returned: exact")
def _():
    with Bed() as bed:
        gate, sink = bed.gate, bed.sink

        def to(n):
            return [f"{k}-{n}-{i}@to.test" for k in (
                "plain", "hold", "drop", "no") for i in (1, 2)]
        got = Client(gate).send(mail(1), rcpts=to(1))
        assert got.startswith("250 "), got
        want = {"accepted": 8, "delivered": 2, "bounced": 0, "discarded": 2,
                "deleted": 0, "queued": 0, "quarantined": 4}
        assert settled(gate, want) == want
        assert {a: s for a, (s, _) in listed(gate).items()} == {
            a: "held" for a in to(1) if kind(a) in ("hold", "no")}
        got = From(gate, "127.0.0.2").send(mail(2), rcpts=to(2))
        assert got.startswith("250 "), got
        want = {"accepted": 16, "delivered": 4, "bounced": 2, "discarded": 4,
                "deleted": 0, "queued": 0, "quarantined": 6}
        assert settled(gate, want) == want
        got = From(gate, "127.0.0.3").send(mail(3), rcpts=to(3))
        assert got.startswith("250 "), got
        want = {"accepted": 24, "delivered": 6, "bounced": 2, "discarded": 8,
                "deleted": 0, "queued": 0, "quarantined": 8}
        assert settled(gate, want) == want
        # all of them: no message is left
        got = From(gate, "127.0.0.3").send(mail(4), rcpts=["drop-1@to.test"])
        assert got.startswith("250 "), got
        got = From(gate, "127.0.0.3").send(
            mail(5), rcpts=["no-1@to.test", "drop-1@to.test"])
        assert got.startswith("250 "), got
        got = Client(gate).send(mail(6), rcpts=["no-1@to.test"])
        assert got.startswith("550 "), got
        want.update(accepted=27, discarded=11)
        assert settled(gate, want) == want
        assert wait_for(lambda: balance(gate.page(), "own")["delivered"] == 1)
        own = [m for m in sink.messages if m.sender == ""]
        assert returned(own) == {"no-2-1@to.test", "no-2-2@to.test"}
        # one released, the other deleted
        ids = {i for _, i in listed(gate).values()}
        for n, i in enumerate(sorted(ids)):
            gate.ctl("quarantine", "release" if n % 2 else "delete", i)
        want.update(quarantined=0, deleted=4, delivered=10)
        assert settled(gate, want) == want
        assert len([r for m in sink.messages if m.sender
                    for r in m.rcpts]) == 10
        gate.stop()
        gate.start()
        assert wait_for(gate.up)
        assert holds(gate.page()) == want


@tap.test("a release moves recipients; what milters add or delete then counts")
def _():
    sink = Sink()
    hold, edit = FakeMilter(), FakeMilter()
    hold.answers = {"E": packet(b"q", b"odd\0") + packet(b"c")}
    names = (("edit", edit), ("hold", hold))
    with Watched(sink.port, chain=("access", "edit", "hold"),
                 milters="".join(
                     f'milter "{n}" {{ may = {{ all }} endpoints = '
                     f'{{ "{f.endpoint()}" }} }}\n' for n, f in names)) as gate:
        assert wait_for(gate.up)
        for _ in range(4):
            assert Client(gate).send(mail(1), "a@x.test", [
                "b@to.test", "c@to.test"]).startswith("250 ")
        settled(gate, {"accepted": 8, "quarantined": 8, "queued": 0})
        gate.ctl("pause", "delivery")
        held = [m["id"] for m in gate.ctl_json("quarantine", "list")]

        def release(edits):
            edit.answers = {"E": edits + packet(b"c")}
            p = gate.ctl("quarantine", "release", held.pop())
            assert p.returncode == 0, p
        release(b"")
        settled(gate, {"accepted": 8, "quarantined": 6, "queued": 2})
        release(packet(b"+", b"<more@to.test>\0"))
        settled(gate, {"accepted": 9, "quarantined": 4, "queued": 5})
        release(packet(b"-", b"<c@to.test>\0"))
        b = settled(gate, {"accepted": 9, "quarantined": 2, "queued": 6,
                           "discarded": 1})
        assert in_queue(gate) == (6, 2)
        gate.kill()
        gate.start()
        assert wait_for(gate.up)
        assert holds(gate.page()) == b
        gate.ctl("quarantine", "delete", held.pop())
        gate.ctl("resume", "delivery")
        settled(gate, {"accepted": 9, "delivered": 6, "deleted": 2,
                       "discarded": 1, "queued": 0, "quarantined": 0})
        to = sorted(r for m in sink.messages for r in m.rcpts)
        assert len(to) == 6, to
    sink.close()
    hold.close()
    edit.close()


class Load:
    """Clients that send while processes die."""

    def __init__(self, gate):
        self.gate = gate
        self.lock = threading.Lock()
        self.n = 0
        self.sent = {}  # number: (recipients, client's address, heard 250)
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(i,),
                                         daemon=True) for i in range(6)]
        for t in self.threads:
            t.start()

    def message(self, rng):
        with self.lock:
            self.n += 1
            n = self.n
        kinds = rng.sample(("plain", "hold", "drop", "no", "bad", "later"),
                           rng.randrange(1, 5))
        return n, [f"{k}-{n}@to.test" for k in kinds]

    def client(self, seed):
        rng = random.Random(seed)
        while not self.stop.is_set():
            n, to = 0, []
            try:
                where = f"127.0.0.{rng.randrange(1, 4)}"
                c = From(self.gate, where)
                c.say("EHLO load.test")
                for _ in range(10):
                    n, to = self.message(rng)
                    sender = "void" if n % 20 == 0 and n <= 20 * VOID \
                        else "s"
                    self.sent[n] = (to, where, False)
                    got = c.send(mail(n), f"{sender}-{n}@from.test", to,
                                 ehlo=False)
                    self.sent[n] = (to, where, got.startswith("250 "))
                    time.sleep(0.02)
                c.close()
            except (OSError, ValueError):
                time.sleep(0.05)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(120)


def decide(gate, deleted, released):
    """Somebody goes through the quarantine, and takes each message once."""
    try:
        held = {}
        for address, (state, ident) in listed(gate).items():
            if state == "held":
                held.setdefault(ident, []).append(address)
        for ident, to in random.sample(sorted(held.items()),
                                       min(len(held), 30)):
            n = int(re.search(r"-(\d+)@", to[0])[1])
            if n % 3 == 0 and not deleted.issuperset(to):
                deleted.update(to)
                gate.ctl("queue", "delete", ident)
            elif n % 3 == 1 and not released.issuperset(to):
                released.update(to)
                gate.ctl("quarantine", "release", ident)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # the queue is away


def kill_one(gate, name):
    """It may have to wait: one that dies often is started later each time."""
    pid = wait_for(lambda: gate.pid_now(name), 60)
    assert pid > 1, name
    os.kill(pid, signal.SIGKILL)


@tap.test(f"{KILLS} kills: each recipient is in one place, and counted there")
def _():
    with Bed("queue { retry-min = 200ms retry-max = 1s }\n"
             "limits { sessions-per-client = 1000 }\n") as bed:
        gate, sink = bed.gate, bed.sink
        sink.delay = 0.01
        load = Load(gate)
        deleted, released = set(), set()
        for i in range(KILLS):
            time.sleep(0.6)
            decide(gate, deleted, released)
            kill_one(gate, ("queue.0", "relay.0", "receiver.0")[i % 3])
            page = gate.page()  # it is served meanwhile
            if page.sum("milldam_process_answers", process="queue.0"):
                holds(page)
        time.sleep(0.6)
        load.end()
        assert wait_for(gate.up, 30)

        def rest():
            return all(state == "held" or kind(a) == "later" for a, (state, _)
                       in listed(gate).items()) and not [
                           m for m in gate.ctl_json("queue", "list")
                           if m["sender"] == ""]
        assert wait_for(rest, 60, 0.3), gate.ctl("queue", "list").stdout
        time.sleep(0.6)
        check(bed, load, deleted, released)
        before = holds(gate.page())
        gate.stop()
        gate.start()
        assert wait_for(gate.up)
        assert holds(gate.page()) == before


def bounced(messages, load):
    """recipients that were returned; what postmaster hears of a report that
    could not be delivered tells of those that it was about"""
    told = returned(messages)
    back = {a for a in told if kind(a) in ("bad", "no")}
    for n, (to, where, _) in load.sent.items():
        if f"void-{n}@from.test" in told:
            back.update(a for a in to if kind(a) == "bad" or (
                kind(a) == "no" and where == "127.0.0.2"))
    return back


def check(bed, load, deleted, released):
    """The page against the sink, `queue list` and what clients heard."""
    gate, sink = bed.gate, bed.sink
    page = gate.page()
    b = holds(page)
    waits = listed(gate)
    at_sink = {r for m in sink.messages if m.sender for r in m.rcpts}
    back = bounced(sink.messages, load)
    # what was let go, delivered and forgotten with a kill is held again
    again = at_sink & set(waits)
    assert again <= released, again - released
    at_sink -= again
    gone = deleted - at_sink - set(waits)
    print(f"# {load.n} messages, {sum(s[2] for s in load.sent.values())} "
          f"answered 250; {b}")
    assert b["delivered"] == len(at_sink), len(at_sink)
    assert b["bounced"] == len(back), len(back)
    assert b["quarantined"] == sum(s == "held" for s, _ in waits.values())
    assert b["queued"] == sum(s != "held" for s, _ in waits.values())
    assert b["deleted"] == len(gone), len(gone)
    own = balance(page, "own")
    assert own["delivered"] == len(message_ids(
        m for m in sink.messages if m.sender == ""))
    each_once(load, (at_sink, back, set(waits), gone), b["discarded"])


def each_once(load, places, discarded):
    """No recipient is nowhere or in two places; a message is wholly here or
    not at all."""
    dropped = 0
    for n, (to, where, heard) in load.sent.items():
        found = {a: sum(a in p for p in places) for a in to}
        may_drop = ("drop", "no") if where == "127.0.0.3" else ("drop",)
        away = [a for a, f in found.items() if f == 0]
        stays = [a for a in to if kind(a) not in may_drop]
        assert all(f <= 1 for f in found.values()), (n, found)
        if heard:
            assert all(kind(a) in may_drop for a in away), (n, where, away)
            dropped += len(away)
        else:  # refused, or killed before the client heard
            assert sum(found[a] for a in stays) in (0, len(stays)), (n, found)
    # where the queue or the receiver was killed in that instant a discard is
    # not counted, or counted and the client did not hear: of six sessions
    assert abs(dropped - discarded) <= 12 * KILLS, (dropped, discarded)


tap.run()
