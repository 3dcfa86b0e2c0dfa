# SPDX-License-Identifier: ISC
"""reload under load - every message is handled by one policy, wholly

Each version of the policy has two filters of its own, which add a header field
each.  While clients send, the gateway is reloaded with the one and the other.
"""
import collections
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Gateway, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

CLIENTS = 8
RELOADS = 12
VERSIONS = ("one", "two")
tap = Tap()
sink = Sink()


def adds(name, value):
    return FakeMilter({"E": packet(b"h", f"{name}\0{value}\0".encode()) +
                       packet(b"c")})


def policy(version):
    """The file, with the chain of that version."""
    return BASE.replace('chain = { "access" }', 'chain = { "access", '
                        f'"first-{version}", "second-{version}" }}')


def reload(version):
    with open(gate.conf, "w") as f:
        f.write(policy(version))
    p = gate.ctl("reload")
    assert p.returncode == 0, p.stderr


class Sender(threading.Thread):
    """Sessions of some messages each, in no hurry between the commands, so
    that reloads meet every stage."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.random = number, random.Random(number)
        self.sent, self.trouble = [], []
        self.stop = False

    def expect(self, got, code):
        if not got.startswith(code):
            raise OSError(f"{got!r} instead of {code}")

    def message(self, c):
        mark = f"mark {self.number}-{len(self.sent)}."
        for line, code in (("MAIL FROM:<a@from.test>", "250"),
                           ("RCPT TO:<b@to.test>", "250"), ("DATA", "354")):
            time.sleep(self.random.choice((0, 0, 0.01)))
            self.expect(c.say(line), code)
        c.sock.sendall(f"Subject: {mark}\r\n\r\n".encode())
        time.sleep(self.random.choice((0, 0, 0.02)))
        c.sock.sendall(b"x\r\n.\r\n")
        got = c.reply()
        self.expect(got, "250")
        self.sent.append((got.split()[2], mark))

    def run(self):
        while not self.stop and not self.trouble:
            try:
                c = Client(gate)
                self.expect(c.greeting, "220")
                self.expect(c.say("EHLO r.test"), "250")
                for _ in range(self.random.randint(1, 4)):
                    self.message(c)
                self.expect(c.say("QUIT"), "221")
                c.close()
            except (OSError, ValueError) as e:
                self.trouble.append(repr(e))


def fields(message):
    head = message.content.split(b"\r\n\r\n")[0].decode()
    return {line.split(": ")[0]: line.split(": ")[1]
            for line in head.split("\r\n")
            if line.startswith(("X-First", "X-Second", "Subject"))}


def hash_of(version):
    """The hash in the record of a message when nothing else goes on."""
    reload(version)
    got = Client(gate).send(b"Subject: quiet\r\n\r\nx\r\n")
    assert got.startswith("250 "), got

    def look():
        return gate.ctl_json("explain", got.split()[2])
    return wait_for(look)[0]["policy_hash"]


def check(sent, hashes):
    """Each message once, with the fields of the version that its record names;
    how many of each."""
    by_mark = collections.defaultdict(list)
    for m in list(sink.messages):
        by_mark[fields(m)["Subject"]].append(fields(m))
    seen = collections.Counter()
    for ident, mark in sent:
        assert len(by_mark[mark]) == 1, (mark, by_mark[mark])
        record = gate.ctl_json("explain", ident)
        assert len(record) == 1, record
        version = hashes[record[0]["policy_hash"]]
        assert by_mark[mark][0] == {
            "X-First": version, "X-Second": version, "Subject": mark}, record
        assert [m["name"] for m in record[0]["milters"]] == [
            "access", f"first-{version}", f"second-{version}"], record
        seen[version] += 1
    return seen


@tap.test("a policy changed under load: nothing is dropped, no message has "
          "part of each")
def _():
    hashes = {hash_of(v): v for v in VERSIONS}
    assert len(hashes) == 2, hashes
    before = {p["name"]: (p["pid"], p["restarts"])
              for p in gate.ctl_json("status")["processes"]}
    senders = [Sender(n) for n in range(CLIENTS)]
    for s in senders:
        s.start()
    for n in range(RELOADS):
        goal = sum(len(s.sent) for s in senders) + 2 * CLIENTS
        wait_for(lambda: any(s.trouble for s in senders) or
                 sum(len(s.sent) for s in senders) >= goal)
        reload(VERSIONS[n % 2])
    for s in senders:
        s.stop = True
    for s in senders:
        s.join(60)
    assert not any(s.trouble for s in senders), [s.trouble for s in senders]
    sent = [m for s in senders for m in s.sent]
    assert wait_for(lambda: len(sink.messages) >= len(sent) + 2)
    seen = check(sent, hashes)
    print(f"# {len(sent)} messages over {RELOADS} reloads: {dict(seen)}")
    assert min(seen[v] for v in VERSIONS) > CLIENTS
    assert before == {p["name"]: (p["pid"], p["restarts"])
                      for p in gate.ctl_json("status")["processes"]}


filters = {f"{place}-{v}": adds(f"X-{place.capitalize()}", v)
           for v in VERSIONS for place in ("first", "second")}
gate = Gateway(sink.port, milters="".join(
    f'milter "{n}" {{ endpoints = {{ "{m.endpoint()}" }} }}\n'
    for n, m in filters.items()))
with gate:
    with open(gate.conf) as conf:
        BASE = conf.read()
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
        for m in filters.values():
            m.close()
