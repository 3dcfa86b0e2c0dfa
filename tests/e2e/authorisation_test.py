# SPDX-License-Identifier: ISC
"""authorisation - who may relay is what the authoriser says, and only that"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Gateway, Tap, free_port, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
MAIL = b"Subject: t\r\n\r\nx\r\n"
NO_RCPT, NR_RCPT, SKIP = 0x08, 0x8000, 0x400


def options(protocol):
    return packet(b"O", struct.pack(">III", 6, 0x1ff, protocol))


# What the authoriser does, and the reply to each of two recipients.
CASES = {
    "continue": ({}, "250", "250"),
    "accept to the first": ({"R": packet(b"a")}, "250", "451"),
    "accept at MAIL": ({"M": packet(b"a")}, "250", "250"),
    "accept at HELO": ({"H": packet(b"a")}, "250", "250"),
    "accept at CONNECT": ({"C": packet(b"a")}, "250", "250"),
    "reject": ({"R": packet(b"r")}, "550", "550"),
    "tempfail": ({"R": packet(b"t")}, "451", "451"),
    "wants no RCPT": ({"O": options(NO_RCPT)}, "451", "451"),
    "gives no reply": ({"O": options(NR_RCPT), "R": b""}, "451", "451"),
    "skips": ({"O": options(SKIP), "R": packet(b"s")}, "451", "451"),
    "dies": ({"R": "close"}, "451", "451"),
    "is silent": ({"R": None}, "451", "451"),
    "refuses to negotiate": ({"O": "close"}, "451", "451"),
    "lies": ({"R": packet(b"c") + packet(b"Z")}, "451", "451"),
}


def recipients(port, addresses=("b@to.test", "c@to.test")):
    c = Client(gate, port=port)
    c.say("EHLO client.test")
    c.say("MAIL FROM:<a@from.test>")
    got = [c.say(f"RCPT TO:<{a}>") for a in addresses]
    c.close()
    return got


@tap.test("each answer of the authoriser, while another accepts everything")
def _():
    for what, (answers, *want) in CASES.items():
        judge.answers = answers
        yes.answers = {"C": packet(b"a")}
        for action in ACTIONS:
            got = recipients(ports[action])
            expected = want
            if want[0] == "451" and what in BROKEN:
                expected = [ACTIONS[action]] * 2
                if action == "shutdown":
                    expected[1] = ""  # it is closed
            assert [g[:3] for g in got] == expected, (what, action, got)


@tap.test("a policy without an authoriser refuses every recipient")
def _():
    assert [g[:9] for g in recipients(ports["none"])] == ["451 4.7.1"] * 2


@tap.test("a milter adds a recipient only with leave")
def _():
    judge.answers = {}
    yes.answers = {"E": packet(b"+", b"<new@to.test>\0") + packet(b"c")}
    n = len(sink.messages)
    got = Client(gate, port=ports["tempfail"]).send(MAIL)
    assert got.startswith("451"), got
    got = Client(gate, port=ports["leave"]).send(MAIL)
    assert got.startswith("250"), got
    assert wait_for(lambda: len(sink.messages) > n)
    assert sink.messages[-1].rcpts == ["b@to.test", "new@to.test"]


BROKEN = ("dies", "is silent", "refuses to negotiate", "lies")
# What becomes of a recipient when the authoriser fails.
ACTIONS = {"tempfail": "451", "reject": "550", "quarantine": "451",
           "shutdown": "421"}
sink = Sink()
judge = FakeMilter()
yes = FakeMilter({"C": packet(b"a")})
ports = {name: free_port() for name in (*ACTIONS, "none", "leave")}
text = (f'milter "yes" {{ endpoints = {{ "{yes.endpoint()}" }} }}\n'
        f'milter "leave" {{ endpoints = {{ "{yes.endpoint()}" }} '
        'may = { add-rcpt } }\n')
for name, port in ports.items():
    text += (f'milter "j-{name}" {{ endpoints = {{ "{judge.endpoint()}" }} '
             'timeout = { "connect=500ms" "command=500ms" } ' +
             (f"on-failure = {name} " if name in ACTIONS else "") + "}\n" +
             f'policy "{name}" {{ chain = {{ '
             f'{"leave" if name == "leave" else "yes"} }} ' +
             (f'authorise = "j-{name}" ' if name != "none" else "") + "}\n"
             f'listener "{name}" {{ policy = "{name}" '
             f'address = {{ "127.0.0.1:{port}" }} }}\n')
gate = Gateway(sink.port, extra=text)
try:
    with gate:
        tap.run()
finally:
    sink.close()
