# SPDX-License-Identifier: ISC
"""sample - a filter is shown a part of the messages, and records say which

"part" (30%) and "shadow" (30% in shadow mode) add a field; rules give the
recipients x*@ other percentages, or a chain of their own.
"""
import os
import re
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Gateway, Tap, free_port, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

COUNT = 200
# of COUNT at 30%: six standard deviations either way
LOW, HIGH = 22, 98
tap = Tap()
sink = Sink()
MAIL = b"Subject: t\r\n\r\nhello\r\n"


class Filter(FakeMilter):
    def __init__(self, name):
        super().__init__()
        self.answers["E"] = packet(b"h", b"X-" + name.encode() +
                                   b"\0yes\0") + packet(b"c")

    def count(self, command):
        return self.commands().count(command)


FILTERS = {n: Filter(n) for n in ("part", "shadow", "plain")}
PART, SHADOW, PLAIN = FILTERS.values()


def send(count, *rcpts):
    """That many messages; their queue ids."""
    ids = []
    for i in range(count):
        if i % 20 == 0:  # several messages a session, and several sessions
            client = Client(gate)
        got = client.send(MAIL, rcpts=rcpts, ehlo=i % 20 == 0)
        assert got.startswith("250 "), got
        ids.append(got.split()[2])
    return ids


def record(ident):
    got = gate.ctl_json("explain", ident)
    return got[0] if isinstance(got, list) else got


def milter(ident, name):
    return next(m for m in record(ident)["milters"] if m["name"] == name)


def reload(rules):
    with open(os.path.join(gate.dir, "local.conf"), "w") as f:
        f.write(f'policy "inbound" {{\n{rules}\n}}\n')
    p = gate.ctl("reload")
    assert p.returncode == 0, p
    assert wait_for(gate.answers)
    for f in FILTERS.values():
        del f.seen[:]


def check(told, filter_, mode):
    """The filter saw what the records say, within the bounds."""
    said = [m["sampled"] for m in told]
    assert LOW <= sum(said) <= HIGH, sum(said)
    assert filter_.count("E") == sum(said), (filter_.count("E"), sum(said))
    for m in told:
        assert m["sample"] == 30
        assert m["mode"] == (mode if m["sampled"] else "off"), m
        assert m["sampled"] or not m["stages"], m
    return said


@tap.test(f"30% of {COUNT} messages: seen as often as the records say")
def _():
    reload("")
    ids = send(COUNT, "m@t.test")
    part = check([milter(i, "part") for i in ids], PART, "enforce")
    # a shadow milter may still be at it when the client has its answer
    wait_for(lambda: SHADOW.count("E") >= sum(
        milter(i, "shadow").get("sampled") for i in ids))
    shadow = check([milter(i, "shadow") for i in ids], SHADOW, "shadow")
    assert part != shadow
    assert PLAIN.count("E") == COUNT
    assert wait_for(lambda: len(sink.messages) == COUNT)
    assert sum(b"\nX-part: yes" in m.content for m in sink.messages) == \
        sum(part)
    assert not any(b"\nX-shadow:" in m.content for m in sink.messages)
    out = next(i for i in ids if not milter(i, "part")["sampled"])
    text = gate.ctl("explain", out).stdout
    assert re.search(r"part .*not sampled \(30%\)", text), text
    stats = gate.ctl_json("status")
    text = str(stats)
    assert f"'left_out': {COUNT - sum(part)}" in text, text
    with urllib.request.urlopen(
            f"http://127.0.0.1:{web}/metrics", timeout=20) as page:
        metrics = page.read().decode()
    got = re.search(r'^milldam_milter_left_out_total\{[^}]*milter="part"[^}]*\} '
                    r'(\d+)', metrics, re.M)
    assert got and int(got[1]) == COUNT - sum(part), metrics


@tap.test("all groups of a message agree")
def _():
    reload('rule "x" { recipient = "x*@*" skip = {"plain"} }')
    del sink.messages[:]
    count = COUNT // 4
    ids = send(count, "m@t.test", "x@t.test")
    said = []
    for i in ids:
        one, two = (milter(f"{i}{n}", "part")["sampled"] for n in ("", "-2"))
        assert one == two, i
        said.append(one)
    assert 0 < sum(said) < count
    assert PART.count("M") == sum(said), (PART.commands(), sum(said))
    assert PART.count("R") == 2 * sum(said)
    assert wait_for(lambda: len(sink.messages) == 2 * count)
    assert sum(b"\nX-part: yes" in m.content for m in sink.messages) == \
        2 * sum(said)


@tap.test("a rule's percentage, for some recipients")
def _():
    reload('rule "x" {\n recipient = "x*@*"\n'
           ' mode = {"plain=shadow:1%", "part=enforce"}\n}')
    ids = send(20, "x@t.test")
    told = [milter(i, "plain") for i in ids]
    assert all(m["sample"] == 1 and m["mode_rule_at"].endswith("local.conf:4")
               for m in told), told
    assert sum(m["sampled"] for m in told) < 10
    # the block's own percentage does not count where a rule has a mode
    assert PART.count("E") == 20
    assert "sampled" not in milter(ids[0], "part")
    ids = send(1, "m@t.test")
    assert "sampled" not in milter(ids[0], "plain")
    shown = gate.ctl("policy", "show", "-f", gate.conf).stdout
    assert 'mode = {"plain=shadow:1%", "part=enforce"}' in shown, shown
    test = gate.ctl("policy", "test", "-f", gate.conf, "--client",
                    "127.0.0.1", "--to", "x@t.test").stdout
    assert re.search(r"^  plain +shadow:1% ", test, re.M), test
    assert re.search(r"^  shadow +shadow:30% ", test, re.M), test


@tap.test("never on an authoriser: told with file and line, and not reloaded")
def _():
    path = os.path.join(gate.dir, "local.conf")
    for text in ('milter "access" { sample = 50 }\n',
                 'policy "inbound" { rule "r" {'
                 ' mode = {"access=enforce:50%"} } }\n'):
        with open(path, "w") as f:
            f.write(text)
        p = gate.ctl("reload")
        assert p.returncode != 0 and "must see every message" in \
            p.stdout + p.stderr, p
    reload("")


web = free_port()
gate = Gateway(
    sink.port, chain=("access", "part", "shadow", "plain"),
    extra='include "local*.conf"\n'
    f'web {{ address = {{ "127.0.0.1:{web}" }} }}\n',
    milters="".join(
        f'milter "{n}" {{ endpoints = {{"{f.endpoint()}"}} %s }}\n' %
        {"part": "sample = 30", "shadow": "mode = shadow sample = 30",
         "plain": ""}[n]
        for n, f in FILTERS.items()),
    files={"local.conf": "# nothing yet\n"})
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
