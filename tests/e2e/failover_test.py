# SPDX-License-Identifier: ISC
# slow
"""failover - milters of several endpoints, some of which do not work

Three endpoints in turn: one takes the message and never answers, one dies
between two packets of a changed body, one works.  Each message answered 250
must arrive once and wholly changed by the one that works.

MILLDAM_FAILOVER=N messages (500); 10000 for the full proof.
"""
import os
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import OPTIONS, FakeMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, wait_for,  # noqa: E402
                     without_trace)
from sink import Sink  # noqa: E402

N = int(os.environ.get("MILLDAM_FAILOVER", "500"))
CLIENTS = 10
BUDGET = 5.0  # seconds a message may take in the milter
tap = Tap()
sink = Sink()
MAIL = b"Subject: t\r\n\r\nx\r\n"


class Changer(FakeMilter):
    """Puts "filtered " before the body, in two packets; end: what it does at
    the end of message, "works", "dies" between them, or "hangs"."""

    def __init__(self, end):
        self.end = end
        self.messages = self.replays = 0
        super().__init__()

    def _session(self, conn):
        body = b""
        try:
            while True:
                n, = struct.unpack(">I", self._exactly(conn, 4))
                data = self._exactly(conn, n)
                command, data = data[:1], data[1:]
                if command == b"O":
                    conn.sendall(OPTIONS)
                elif command == b"D":
                    self.replays += b"{milldam_replay}\x001\x00" in data
                elif command == b"M":
                    body = b""
                    conn.sendall(packet(b"c"))
                elif command == b"E":
                    self.messages += 1
                    if not self.at_end(conn, body):
                        return
                elif command == b"Q":
                    return
                elif command not in b"AK":
                    body += data if command == b"B" else b""
                    conn.sendall(packet(b"c"))
        except OSError:
            pass
        finally:
            conn.close()

    def at_end(self, conn, body):
        if self.end == "hangs":
            return True
        conn.sendall(packet(b"b", b"filtered "))
        if self.end == "dies":
            return False
        conn.sendall(packet(b"h", b"X-Filtered\0yes\0") + packet(b"b", body) +
                     packet(b"c"))
        return True


def client(gate, first, results):
    c = Client(gate)
    c.say("EHLO client.test")
    for i in range(first, N, CLIENTS):
        if i % 50 < CLIENTS:  # sessions end now and then
            c.close()
            c = Client(gate)
            c.say("EHLO client.test")
        began = time.monotonic()
        reply = c.send(b"Subject: %d\r\n\r\nbody %d\r\n" % (i, i), ehlo=False)
        results[i] = (reply, time.monotonic() - began)
    c.close()


def milter_stats(gate, name="group"):
    status = gate.ctl_json("status")
    for p in status["processes"]:
        for m in p.get("info", {}).get("milters", []):
            if m["name"] == name:
                return m
    raise KeyError(name)


@tap.test(f"{N} messages: none lost, half changed or unfiltered")
def _():
    ends = [Changer(e) for e in ("hangs", "dies", "works")]
    where = " ".join(f'"{e.endpoint()}"' for e in ends)
    with Gateway(sink.port, chain=("access", "group"), milters=f'''
milter "group" {{ endpoints = {{ {where} }} balance = round-robin
  eject-after = 5 eject-time = 300ms health-interval = 500ms
  timeout = {{ "command=1s" "message={int(BUDGET)}s" }} }}''') as gate:
        results = [None] * N
        threads = [threading.Thread(target=client, args=(gate, k, results))
                   for k in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        refused = [r for r in results if not r[0].startswith("250")]
        assert not refused, refused[:5]
        got = sink.wait(N, 60)
        bodies = sorted(without_trace(m.content) for m in got)
        want = sorted(b"Subject: %d\r\nX-Filtered: yes\r\n\r\n"
                      b"filtered body %d\r\n" % (i, i) for i in range(N))
        assert len(bodies) == N, (len(bodies), N)
        assert bodies == want, next(
            (a, b) for a, b in zip(bodies, want) if a != b)
        m = milter_stats(gate)
        hung, died, works = ends
        assert hung.messages >= 5 and died.messages >= 5, (
            hung.messages, died.messages)
        assert works.messages >= N
        assert m["fail_opens"] == 0 and m["replays_unlike"] == 0, m
        assert m["replays"] >= hung.messages + died.messages - 1, m
        assert m["replays"] > 0 and works.replays > 0
        assert all(e["ejections"] > 0 for e in m["endpoints"][:2]), m
        shown = gate.ctl("status").stdout
        assert "ENDPOINT" in shown and ends[2].endpoint() in shown, shown
        times = sorted(r[1] for r in results)
        p99 = times[min(N - 1, N * 99 // 100)]
        print(f"# median {times[N // 2] * 1000:.0f} ms, p99 "
              f"{p99 * 1000:.0f} ms, longest {times[-1] * 1000:.0f} ms; "
              f"hung {hung.messages}, died {died.messages}, "
              f"replays {m['replays']}")
        assert p99 < BUDGET, p99
    for e in ends:
        e.close()


def openssl(where, *words):
    subprocess.run(("openssl",) + words, cwd=where, check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def authority(where, name):
    openssl(where, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
            "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out",
            f"{name}.pem")


def certificate(where, ca, name):
    openssl(where, "req", "-newkey", "rsa:2048", "-nodes", "-subj",
            f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")
    openssl(where, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem",
            "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "2",
            "-copy_extensions", "copy", "-out", f"{name}.pem")


class TlsMilter(FakeMilter):
    """The same behind TLS; asks for a certificate of the authority."""

    def __init__(self, where, name, ca):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{where}/{name}.pem",
                                     f"{where}/{name}.key")
        self.context.load_verify_locations(f"{where}/{ca}.pem")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.clients = []
        super().__init__()

    def _session(self, conn):
        try:
            conn = self.context.wrap_socket(conn, server_side=True)
            self.clients.append(dict(
                x[0] for x in conn.getpeercert()["subject"])["commonName"])
        except OSError:
            conn.close()
            return
        super()._session(conn)


@tap.test("TLS: both sides prove who they are, or there is no answer")
def _():
    with tempfile.TemporaryDirectory() as where:
        os.chmod(where, 0o755)
        for ca in ("ca", "other"):
            authority(where, ca)
        certificate(where, "ca", "filter.test")
        certificate(where, "ca", "gate.test")
        certificate(where, "other", "evil.test")
        for f in os.listdir(where):
            os.chmod(os.path.join(where, f), 0o644)
        milter = TlsMilter(where, "filter.test", "ca")
        big = b"Subject: t\r\n\r\n" + b"0123456789abcdef\r\n" * 60000
        # ca, certificate, name, what happens
        for ca, cert, name, reply in (
                ("ca", "gate.test", "filter.test", "250 "),
                ("other", "gate.test", "filter.test", "451"),
                ("ca", "evil.test", "filter.test", "451"),
                ("ca", None, "filter.test", "451"),
                ("ca", "gate.test", "else.test", "451"),
                ("absent", "gate.test", "filter.test", "451")):
            own = (f'"cert={where}/{cert}.pem" "key={where}/{cert}.key"'
                   if cert else "")
            n = len(milter.seen)
            with Gateway(sink.port, chain=("access", "far"), milters=f'''
milter "far" {{ endpoints = {{ "{milter.endpoint()}" }}
  tls = {{ "ca={where}/{ca}.pem" {own} "name={name}" }} }}''') as gate:
                got = Client(gate).send(big)
                assert got.startswith(reply), (ca, cert, name, got)
                if reply == "250 ":
                    sent = b"".join(d for c, d in milter.seen if c == b"B")
                    assert sent == big.split(b"\r\n\r\n", 1)[1]
                    assert milter.clients == ["gate.test"], milter.clients
                    # what cannot be read any more is still known
                    gate.ctl("reload")
                    got = Client(gate).send(MAIL)
                    assert got.startswith("250 "), got
                else:
                    seen = [c for c, _ in milter.seen[n:]]
                    assert b"R" not in seen, seen
                    # the other side's refusal may come as a reset
                    why = "tls: " if cert == "gate.test" else "milter=far: "
                    assert why in gate.log_text(), gate.log_text()
        # a filter that is not who it should be
        evil = TlsMilter(where, "evil.test", "ca")
        with Gateway(sink.port, chain=("access", "far"), milters=f'''
milter "far" {{ endpoints = {{ "{evil.endpoint()}" }}
  tls = {{ "ca={where}/ca.pem" "cert={where}/gate.test.pem"
    "key={where}/gate.test.key" "name=evil.test" }} }}''') as gate:
            assert Client(gate).send(MAIL).startswith("451")
            assert not evil.seen, evil.seen


@tap.test("an endpoint may be named in the hosts file")
def _():
    milter = FakeMilter()
    with Gateway(sink.port, chain=("access", "near"),
                 files={"hosts": "127.0.0.1 filter.test\n"},
                 route='hosts = "DIR/hosts"', milters=f'''
milter "near" {{ endpoints = {{ "inet:{milter.port}@filter.test" }} }}''') \
            as gate:
        assert Client(gate).send(MAIL).startswith("250 ")
        assert b"E" in [c for c, _ in milter.seen]


@tap.test("an endpoint that is back takes mail again, in order")
def _():
    first, second = FakeMilter(), FakeMilter()
    port = first.port
    with Gateway(sink.port, chain=("access", "group"), milters=f'''
milter "group" {{ endpoints = {{ "{first.endpoint()}"
  "inet:127.0.0.1:{second.port}" }} eject-after = 1 eject-time = 500ms }}''') \
            as gate:
        assert Client(gate).send(MAIL).startswith("250 ")
        assert first.commands().endswith("E") or "E" in first.commands()
        assert not second.seen
        first.answers["O"] = "close"
        for _ in range(3):
            assert Client(gate).send(MAIL).startswith("250 ")
        assert second.commands().count("E") == 3
        states = [e["state"] for e in milter_stats(gate)["endpoints"]]
        assert states[0] in ("open", "half-open"), states
        assert "ejected for" in gate.log_text()
        del first.answers["O"]
        assert wait_for(lambda: milter_stats(gate)["endpoints"][0]["state"]
                        == "closed")
        assert first.port == port
        n = first.commands().count("E")
        assert Client(gate).send(MAIL).startswith("250 ")
        assert first.commands().count("E") == n + 1


try:
    tap.run()
finally:
    sink.close()
