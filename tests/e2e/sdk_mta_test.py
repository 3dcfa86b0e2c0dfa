# SPDX-License-Identifier: ISC
# slow
# plain build only
"""sdk_mta_test - one SDK filter under Postfix, Sendmail and Milldam: the same
replies, recipients and edits, and patience while it works"""
import os
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import sdkfilter  # noqa: E402
from gateway import Client, Gateway, Tap, free_port, wait_for  # noqa: E402
from mta import server  # noqa: E402
from pair import ENGINES, Pair  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
DIR = tempfile.mkdtemp(prefix="milldam-mta.", dir="/tmp")
os.chmod(DIR, 0o755)
FILTER = os.path.join(DIR, "sdk-filter")
MAIL = (b"From: a@from.test\r\nTo: b@to.test\r\nSubject: old\r\n"
        b"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <1@from.test>\r\nX-A: 1\r\nX-A: 2\r\n\r\nold\r\n")


class Peer:
    """One of the servers with the filter, relaying to a sink of its own."""

    def __init__(self, kind, engine):
        self.kind = kind
        self.sink = Sink()
        if kind == "milldam":
            self.filter = None
            self.server = Gateway(
                self.sink.port, chain=("access", "sdk"),
                milters=f'milter "sdk" {{ run = "{FILTER}" may = {{"all"}} '
                        f'args = {{"-e", "{engine}"}} }}')
            return
        port = free_port()
        where = f"inet:{port}@127.0.0.1"
        log = open(os.path.join(DIR, kind + engine), "w+")
        self.filter = subprocess.Popen(
            [FILTER, "-p", where, "-e", engine], stdin=subprocess.DEVNULL, stderr=log)
        path = log.name
        assert wait_for(lambda: "started" in open(path).read())
        self.server = server(kind, self.sink.port, [
            where if kind == "sendmail" else f"inet:127.0.0.1:{port}"])
        self.server.host = "127.0.0.1"

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exc):
        self.server.__exit__(*exc)
        self.sink.close()
        if self.filter is not None:
            self.filter.terminate()
            assert self.filter.wait(30) == 0

    def client(self):
        c = Client(self.server)
        c.say("EHLO client.test")
        c.say("MAIL FROM:<a@from.test>")
        return c

    def finish(self, client):
        client.say("DATA")
        client.sock.sendall(MAIL + b".\r\n")
        return client.reply()


def check_recipients(peer):
    c = peer.client()
    got = c.say("RCPT TO:<lines@to.test>")
    got = got.replace("<lines@to.test>... ", "")  # Sendmail says whose
    assert got == ("550-5.7.1 100% one\n550-5.7.1 two\n"
                   "550 5.7.1 three lines@to.test"), got
    for name in ("accept", "drop"):
        assert c.say(f"RCPT TO:<{name}@to.test>").startswith("250"), name
    assert peer.finish(c).startswith("250")
    msg = peer.sink.wait(1)[0]
    assert [r.split("@")[0].strip("<") for r in msg.rcpts] == ["accept"]
    assert b"Subject: old\r\n" in msg.content


def check_edits(peer):
    n = len(peer.sink.messages)
    c = peer.client()
    assert c.say("RCPT TO:<alter@to.test>").startswith("250")
    assert peer.finish(c).startswith("250")
    # a server may send to each recipient by itself
    assert wait_for(lambda: sum(
        len(m.rcpts) for m in peer.sink.messages[n:]) == 2)
    msgs = peer.sink.messages[n:]
    rcpts = sorted(r.strip("<>") for m in msgs for r in m.rcpts)
    assert rcpts == ["new@to.test", "par@to.test"], rcpts
    for m in msgs:
        assert m.sender.strip("<>") == "", m.sender
        head, body = m.content.split(b"\r\n\r\n", 1)
        assert body == b"new\r\n", body
        assert b"\r\nX-A:" not in head and b"Subject: changed" in head, head
        assert b"X-New: a\r\n b" in head and b"X-Top: t\r\n" in head, head


def check_patience(peer):
    # Sendmail waits 10 s for an answer, if nobody tells it to be patient
    c = peer.client()
    assert c.say("RCPT TO:<sleep14@to.test>").startswith("250")
    got = peer.finish(c)
    assert got.startswith("250"), got


def check_stop(peer):
    got = []

    def work():
        c = peer.client()
        c.say("RCPT TO:<sleep3@to.test>")
        got.append(peer.finish(c))

    t = threading.Thread(target=work)
    t.start()
    t.join(1)
    peer.filter.terminate()
    t.join()
    assert got[0].startswith("250"), got
    assert peer.filter.wait(20) == 0


def check(kind, engine):
    with Peer(kind, engine) as peer:
        check_recipients(peer)
        check_edits(peer)
        check_patience(peer)
        if peer.filter is not None:
            check_stop(peer)


for kind in ("postfix", "sendmail", "milldam"):
    pair = Pair(lambda which, kind=kind: check(kind, which))
    for which in ENGINES:
        tap.test(f"under {kind}, {which}: recipients, edits, progress and a "
                 "graceful stop")(lambda p=pair, w=which: p.wait(w))


if __name__ == "__main__":
    try:
        sdkfilter.build(FILTER)
        tap.run()
    finally:
        shutil.rmtree(DIR, ignore_errors=True)
