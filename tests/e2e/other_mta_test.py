# SPDX-License-Identifier: ISC
"""other_mta - our milters give the same verdicts under Postfix and Sendmail"""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import INST, TOP, Client, Tap, free_port, wait_for  # noqa: E402
from mails import HEAD, eicar_mail, stranger  # noqa: E402
from mta import server  # noqa: E402
from pair import ENGINES  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
work = tempfile.mkdtemp(prefix="milldam-other.", dir="/tmp")
milters = []


def start(name, settings, engine):
    """One of our milters, on a TCP socket of its own."""
    port = free_port()
    path = f"{work}/{name}-{engine}.conf"
    with open(path, "w") as f:
        f.write(settings)
    milters.append(subprocess.Popen(
        [f"{INST}/libexec/milldam/milldam-{name}", "-p", f"inet:{port}@127.0.0.1",
         "-c", path, "-e", engine], stdin=subprocess.DEVNULL))

    def listens():
        with open("/proc/net/tcp") as f:
            return any(f"0100007F:{port:04X} 00000000:0000 0A" in line
                       for line in f)
    assert wait_for(listens, 30), f"{name} did not start"
    return port


def spelled(kind, port):
    """The milter's socket as that server writes it."""
    return (f"inet:127.0.0.1:{port}" if kind == "postfix"
            else f"inet:{port}@127.0.0.1")


for kind, engine in ((k, e) for e in ENGINES for k in ("postfix", "sendmail")):
    @tap.test(f"under {kind}, {engine}: clean, infected and foreign mail")
    def _(kind=kind, engine=engine):
        sockets = [spelled(kind, p) for p in ports[engine]]
        with server(kind, sink.port, sockets) as peer:
            peer.host = "127.0.0.1"
            n = len(sink.messages)
            got = Client(peer).send(HEAD % (b"clean", b"clean") +
                                    b"\r\nhello\r\n")
            assert got.startswith("250"), got
            msgs = sink.wait(n + 1)
            assert len(msgs) == n + 1, "did not arrive"
            assert b"\r\nX-Milldam: seen\r\n" in msgs[-1].content
            assert msgs[-1].content.endswith(b"\r\n\r\nhello\r\n")
            got = Client(peer).send(eicar_mail())
            assert got.startswith("550 5.7.1"), got
            assert "irus" in got or "Milldam" in got, got
            got = stranger(peer).send(HEAD % (b"f", b"f") + b"\r\nx\r\n",
                                      rcpts=["x@elsewhere.test"])
            assert got.startswith("550 5.7.1"), got
            got = stranger(peer).send(HEAD % (b"o", b"o") + b"\r\nx\r\n",
                                      rcpts=["x@ours.test"])
            assert got.startswith("250"), got
            assert len(sink.wait(n + 2)) == n + 2


try:
    ports = {engine: [
        start("access", "relay-networks = {127.0.0.1, ::1}\n"
              "relay-domains = {ours.test}\n", engine),
        start("virus",
              f'databases = {{"{TOP}/tests/data/signatures"}}\n'
              'action = "reject"\n', engine),
        start("rewrite", 'header "mark" { name = "X-Milldam" '
              'action = "add" value = "seen" }\n', engine)]
        for engine in ENGINES}
    tap.run()
finally:
    for m in milters:
        m.terminate()
        m.wait(20)
    sink.close()
    subprocess.run(["rm", "-rf", work], check=False)
