# SPDX-License-Identifier: ISC
# plain build only
"""opendkim - a milter that nobody here wrote signs mail under Milldam"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
import dkim  # noqa: E402
from dkimkey import dkim_key  # noqa: E402
from gateway import Client, Gateway, Tap, free_port  # noqa: E402
from mta import program  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
HEAD = (b"From: Anna <anna@signed.test>\r\nTo: <b@to.test>\r\n"
        b"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <%d@signed.test>\r\nSubject: signed\r\n")
SHAPES = {
    "plain": b"\r\nhello\r\n",
    "folded header": b"X-Fold: a\r\n b\r\n\tc\r\n\r\nx\r\n",
    "header without a blank": b"X-Tight:no blank\r\n\r\nx\r\n",
    "two blanks after the colon": b"X-Wide:  two\r\n\r\nx\r\n",
    "dots and empty lines": b"\r\n.\r\n..\r\n\r\n\r\nend\r\n\r\n\r\n",
    "8-bit": b"\r\n\xc3\xa4\xff\r\n",
    "empty body": b"\r\n",
    "200 KB": b"\r\n" + b"0123456789abcdef\r\n" * 12000,
}


def start():
    work = gate.dir
    key = work + "/key.pem"
    text, record = dkim_key()
    with open(key, "w") as f:
        f.write(text)
    with open(work + "/opendkim.conf", "w") as f:
        f.write(f"""Socket inet:{port}@127.0.0.1
Mode sv
Domain signed.test
Selector s
KeyFile {key}
Canonicalization relaxed/simple
InternalHosts csl:127.0.0.1
Background no
Syslog no
RequireSafeKeys no
AutoRestart no
""")
    return record, program(
        "opendkim", ["opendkim"], f"opendkim -x {work}/opendkim.conf -f",
        port)


for number, (shape, text) in enumerate(SHAPES.items()):
    @tap.test(f"its signature verifies at the next hop: {shape}")
    def _(number=number, text=text):
        n = len(sink.messages)
        got = Client(gate).send(HEAD % number + text)
        assert got.startswith("250 "), got
        msgs = sink.wait(n + 1)
        assert len(msgs) == n + 1, "did not arrive"
        content = msgs[-1].content
        assert b"DKIM-Signature:" in content, content[:400]
        assert dkim.verify(content, dnsfunc=lambda *a, **k: record.encode())


@tap.test("one changed byte breaks the signature (negative control)")
def _():
    content = sink.messages[0].content
    assert not dkim.verify(content.replace(b"hello", b"hullo"),
                           dnsfunc=lambda *a, **k: record.encode())


@tap.test("a stopped opendkim tempfails, and mail flows when it is back")
def _():
    global box
    box.stop()
    got = Client(gate).send(HEAD % 90 + b"\r\nx\r\n")
    assert got.startswith("451"), got
    record2, box = start()
    got = Client(gate).send(HEAD % 91 + b"\r\nx\r\n")
    assert got.startswith("250 "), got


port = free_port()
gate = Gateway(sink.port, chain=("access", "dkim"), milters='milter "dkim" '
               f'{{ endpoints = {{ "inet:{port}@127.0.0.1" }} }}')
record, box = start()
with gate:
    try:
        tap.run()
    finally:
        box.stop()
        gate.remove()
        sink.close()
