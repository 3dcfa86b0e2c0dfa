# SPDX-License-Identifier: ISC
"""parallel - filters that only read work on the content at the same time"""
import os
import statistics
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Gateway, Tap, free_port  # noqa: E402
from sink import Sink  # noqa: E402

FILTERS = 4
SLOW = 0.05
TIMES = 15
tap = Tap()
sink = Sink()
# no change asked for; header fields and the like are taken without an answer
READS = packet(b"O", struct.pack(">III", 6, 0, 0))


def slow(_):
    time.sleep(SLOW)
    return packet(b"c")


def listener(name, port, policy):
    return (f'policy "{name}" {{ authorise = "access" {policy} }}\n'
            f'listener "{name}" {{ address = {{ "127.0.0.1:{port}" }} '
            f'policy = "{name}" }}\n')


def seconds(port):
    """From the final dot to the 250, the median of some messages."""
    took = []
    for _ in range(TIMES):
        c = Client(gate, port=port)
        for line in ("EHLO p.test", "MAIL FROM:<a@from.test>",
                     "RCPT TO:<b@to.test>", "DATA"):
            assert c.say(line)[0] in "23", line
        begin = time.monotonic()
        c.sock.sendall(b"Subject: p\r\n\r\nx\r\n.\r\n")
        assert c.reply().startswith("250 ")
        took.append(time.monotonic() - begin)
        c.close()
    return statistics.median(took)


@tap.test(f"{FILTERS} filters of {SLOW * 1000:.0f} ms add about "
          f"{SLOW * 1000:.0f} ms, one after the other {FILTERS} times that")
def _():
    none, beside, serial = (seconds(p) for p in ports)
    print("# milliseconds: without filters %.1f, side by side %.1f, with "
          "parallel = no %.1f" % (none * 1000, beside * 1000, serial * 1000))
    # what a sleeping filter takes at least; above that the machine's load
    assert beside - none > 0.9 * SLOW
    assert beside - none < 3 * SLOW
    assert serial - none > 0.9 * FILTERS * SLOW
    assert all(m.commands().count("E") == 2 * TIMES for m in filters)


filters = [FakeMilter({"O": READS, "E": slow}) for _ in range(FILTERS)]
names = ", ".join(f'"f{i}"' for i in range(FILTERS))
ports = [free_port() for _ in range(3)]
gate = Gateway(
    sink.port,
    milters="".join(f'milter "f{i}" {{ endpoints = {{ "{m.endpoint()}" }} }}\n'
                    for i, m in enumerate(filters)),
    extra=listener("none", ports[0], 'chain = { "access" }') +
    listener("beside", ports[1], f'chain = {{ "access", {names} }}') +
    listener("serial", ports[2],
             f'chain = {{ "access", {names} }} parallel = no'))
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
        for m in filters:
            m.close()
