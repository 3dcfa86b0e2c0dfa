# SPDX-License-Identifier: ISC
"""held - a gateway whose milter "odd" holds everything"""
from fakemilter import FakeMilter, packet
from gateway import Client, Gateway, wait_for

HEAD = b"From: <a@from.test>\r\nSubject: held\r\n\r\n"
HOLD = packet(b"q", b"looks odd: score 7.5\0") + packet(b"a")


class Held:
    """others: {name: FakeMilter} of the chain, before "odd" but for those whose
    names begin with "after"."""

    def __init__(self, port, answer=HOLD, others=None, **more):
        self.fake = FakeMilter({"E": answer})
        self.others = others or {}
        last = [n for n in self.others if n.startswith("after")]
        first = [n for n in self.others if n not in last]
        text = more.pop("milters", "") + "".join(
            f'milter "{n}" {{ endpoints = {{ "{f.endpoint()}" }} '
            "may = { all } }\n"
            for n, f in [*self.others.items(), ("odd", self.fake)])
        self.gate = Gateway(port, chain=("access", *first, "odd", *last),
                            milters=text, **more)

    def __enter__(self):
        self.gate.held = self
        return self.gate.start()

    def __exit__(self, *exc):
        self.gate.__exit__(*exc)
        for f in [self.fake, *self.others.values()]:
            f.close()


def send(gate, n=1, content=HEAD + b"x\r\n", rcpts=("b@to.test",)):
    for _ in range(n):
        got = Client(gate).send(content, rcpts=rcpts)
        assert got.startswith("250 "), got


def release(gate, m, *more):
    """The ids that it became."""
    got = gate.ctl_json("quarantine", "release", m, *more)
    assert got.get("changed") == 1, got
    return got["released_as"]


def kept(gate, m, what, *more):
    """It is not released, and says why."""
    p = gate.ctl("quarantine", "release", m, *more)
    assert p.returncode == 1 and what in p.stderr, p
    found = [x for x in gate.ctl_json("quarantine", "list") if x["id"] == m]
    assert len(found) == 1, found
    return found[0]


def listed(gate, n):
    found = wait_for(lambda: [m for m in [gate.ctl_json("queue", "list")]
                              if len(m) == n], 10)
    assert found, gate.ctl("queue", "list").stdout
    return found[0]
