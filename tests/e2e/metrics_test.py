# SPDX-License-Identifier: ISC
# slow
"""metrics - the page of milldam-web (its balance after kills: balance_test)"""
import json
import os
import re
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import FakeMilter, packet  # noqa: E402
from gateway import Client, Tap, free_port, wait_for  # noqa: E402
from sink import Sink  # noqa: E402
from watched import Watched, holds, in_queue, settled  # noqa: E402

tap = Tap()
MAIL = b"Subject: t\r\n\r\nx\r\n"


@tap.test("every outcome is in the balance; it agrees with sink and queue list")
def _():
    sink = Sink()
    sink.refuse_rcpt = {"no@to.test": "550 5.1.1 nobody",
                        "later@to.test": "451 4.2.0 later"}
    fake = FakeMilter()

    def verdict(conn):
        mail = [d for c, d in fake.seen if c == b"M"][-1]
        if b"drop@" in mail:
            return packet(b"d")
        if b"hold@" in mail:
            return packet(b"q", b"odd\0") + packet(b"c")
        return packet(b"c")
    fake.answers = {"E": verdict}
    with Watched(sink.port, chain=("access", "fake"),
                 milters=f'milter "fake" {{ endpoints = '
                 f'{{ "{fake.endpoint()}" }} }}') as gate:
        assert wait_for(gate.up)
        for sender, rcpts in (
                ("a@x.test", ["b@to.test"]),
                ("a@x.test", ["c@to.test", "no@to.test", "later@to.test"]),
                ("drop@x.test", ["d@to.test", "e@to.test"]),
                ("hold@x.test", ["f@to.test", "g@to.test"])):
            assert Client(gate).send(MAIL, sender, rcpts).startswith("250 ")
        b = settled(gate, {"accepted": 8, "delivered": 2, "bounced": 1,
                           "discarded": 2, "queued": 1, "quarantined": 2})
        assert in_queue(gate) == (b["queued"], b["quarantined"])
        listed = gate.ctl_json("queue", "list")
        held = [m["id"] for m in listed if m["state"] == "held"]
        gate.ctl("queue", "delete", held[0])
        b = settled(gate, {"deleted": 2, "quarantined": 0})
        assert b["accepted"] == 8
        late = [m["id"] for m in listed if m["sender"] == "a@x.test"]
        gate.ctl("queue", "hold", late[0])
        settled(gate, {"queued": 0, "quarantined": 1})
        sink.refuse_rcpt = {}
        gate.ctl("queue", "release", late[0])
        b = settled(gate, {"delivered": 3, "quarantined": 0})
        to = [r for m in sink.messages if m.sender for r in m.rcpts]
        assert len(to) == b["delivered"] == 3, to
        page = gate.page()
        assert page.sum("milldam_milter_verdicts_total", milter="fake",
                        stage="eom", verdict="discard") == 1
        assert page.sum("milldam_milter_quarantines_total",
                        milter="fake") == 1
        assert page.sum("milldam_milter_answer_seconds_count",
                        milter="fake") > 4
        assert page.sum("milldam_bounces_total") == 1
        gate.stop()
        gate.start()
        assert wait_for(gate.up)
        again = holds(gate.page())
        assert again == b, (again, b)
    sink.close()
    fake.close()


@tap.test("a milter's time-outs, failures and fail-opens are counted")
def _():
    sink = Sink()
    fake = FakeMilter({"E": None})
    with Watched(sink.port, chain=("access", "fake"),
                 milters=f'milter "fake" {{ endpoints = '
                 f'{{ "{fake.endpoint()}" }} on-failure = accept '
                 'timeout = { "command=300ms" "message=1s" } }') as gate:
        assert wait_for(gate.up)
        assert Client(gate).send(MAIL).startswith("250 ")
        time.sleep(0.6)
        page = gate.page()
        for name in ("timeouts", "failures", "fail_opens", "connects"):
            assert page.sum(f"milldam_milter_{name}_total",
                            milter="fake") == 1, name
        assert page.sum("milldam_milter_mode", milter="fake",
                        mode="enforce") == 1
        assert page.sum("milldam_sessions_total") >= 1
        assert page.sum("milldam_alarms_total") >= 1
    sink.close()
    fake.close()


@tap.test("endpoints: breaker, pool, probes, replays and fail-opens of each")
def _():
    sink = Sink()
    # one that is out, one that dies at the end of the message, one that works
    out, dies, works = ends = (FakeMilter({"O": "close"}),
                               FakeMilter({"E": "close"}), FakeMilter())
    where = " ".join(f'"{e.endpoint()}"' for e in ends)
    with Watched(sink.port, chain=("access", "group"),
                 milters=f'milter "group" {{ endpoints = {{ {where} }} '
                 'eject-after = 1 eject-time = 60s health-interval = 1h '
                 'warm = 1 on-failure = accept }') as gate:
        assert wait_for(gate.up)

        def value(name, end, **more):
            return gate.page().sum(f"milldam_milter_{name}", milter="group",
                                   endpoint=end.endpoint(), **more)

        def ready():
            return value("pool_idle", works) == 1 and \
                value("endpoint_state", out, state="open") == 1
        assert wait_for(ready)
        assert Client(gate).send(MAIL).startswith("250 ")
        assert wait_for(lambda: value("endpoint_state", dies, state="open"))
        assert wait_for(ready)
        for end, state in ((out, "open"), (dies, "open"), (works, "closed")):
            for word in ("open", "half-open", "closed"):
                assert value("endpoint_state", end, state=word) == (
                    word == state), (end.endpoint(), word)
            assert value("ejections_total", end) == (end is not works)
            assert value("fail_opens_total", end) == 0
            assert value("replays_total", end) == (end is works)
            assert value("probes_total", end) >= 1
            assert value("busy", end) == 0
        assert value("endpoint_faults_total", dies) == 1
        assert value("probe_failures_total", out) >= 1
        assert value("probe_failures_total", works) == 0
        assert gate.page().sum("milldam_milter_failovers_total",
                               milter="group") >= 1
        works.answers["E"] = "close"
        assert Client(gate).send(MAIL).startswith("250 ")
        assert wait_for(lambda: gate.page().sum(
            "milldam_milter_fail_opens_total", milter="group") == 1)
    sink.close()
    for e in ends:
        e.close()


@tap.test("healthz and readyz; not ready without a queue; HEAD; 404; 405")
def _():
    sink = Sink()
    with Watched(sink.port) as gate:
        assert wait_for(gate.up)
        assert gate.get("/healthz")[::2] == (200, b"ok\n")
        status, head, body = gate.get("/readyz")
        assert json.loads(body)["ready"] is True
        status, head, body = gate.get("/metrics", "HEAD")
        assert status == 200 and body == b"" and \
            int(re.search(r"Content-Length: (\d+)", head)[1]) > 1000
        assert "version=0.0.4" in head and "Connection: close" in head
        assert gate.get("/")[0] == 404
        assert gate.get("/metrics?x=1")[0] == 200
        status, head, _ = gate.get("/metrics", "DELETE")
        assert status == 405 and "Allow: GET, HEAD" in head
        os.kill(gate.pid_now("queue.0"), signal.SIGSTOP)
        time.sleep(0.6)
        # a queue that does not answer: the page comes without it
        page = gate.page()
        assert page.sum("milldam_process_answers", process="queue.0") == 0
        assert page.sum("milldam_recipients_accepted_total") is None
        os.kill(gate.pid_now("queue.0"), signal.SIGKILL)

        def seen():
            return gate.get("/readyz")[0] == 503
        # it is back within a tenth of a second: killed while it is looked at
        for _ in range(20):
            if seen():
                break
            pid = gate.pid_now("queue.0")
            if pid:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.3)
        else:
            raise AssertionError("always ready")
        assert wait_for(gate.up, 30)
    sink.close()


@tap.test("hostile clients: refused, bounded, and no harm to the others")
def _():
    sink = Sink()
    with Watched(sink.port) as gate:
        assert wait_for(gate.up)
        host = b"Host: localhost\r\n"
        for request, want in (
                (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
                (b"GET /metrics HTTP/1.1\r\n" + host + host + b"\r\n", 400),
                (b"GET /metrics HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421),
                (b"GET /metrics HTTP/1.1\n" + host + b"\n", 400),
                (b"GET /metrics HTTP/2.0\r\n" + host + b"\r\n", 505),
                (b"GET  /metrics HTTP/1.1\r\n" + host + b"\r\n", 400),
                (b"GET /" + b"a" * 9000, 414),
                (b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 9000, 431),
                (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
                (b"POST /metrics HTTP/1.1\r\n" + host +
                 b"Content-Length: 5\r\n\r\nhello", 405),
                (b"GET / HTTP/1.1\r\n" + host +
                 b"Transfer-Encoding: chunked\r\n\r\n", 413),
                (b"\0\0\0\0\r\n\r\n", 400),
                (b"GET /metrics HTTP/1.0\r\n\r\n", 200)):
            got = gate.raw(request)
            assert got.startswith(b"HTTP/1.1 %d " % want), (request[:60], got)
        # as many silent ones as there is room for, and more
        quiet = [socket.create_connection(("127.0.0.1", gate.web), 5)
                 for _ in range(100)]
        slow = time.monotonic()
        assert gate.get("/healthz")[0] == 200  # when the first ones time out
        assert time.monotonic() - slow < 25
        for s in quiet:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                         struct.pack("ii", 1, 0))
            s.close()
        assert Client(gate).send(MAIL).startswith("250 ")
        assert gate.page().sum("milldam_process_restarts_total",
                               process="web.0") == 0
    sink.close()


@tap.test("a reload moves the page, ends it, and starts it")
def _():
    sink = Sink()
    with Watched(sink.port) as gate:
        assert wait_for(gate.up)
        with open(gate.conf) as f:
            text = f.read()
        old, new = gate.web, free_port()
        for change in (f"127.0.0.1:{new}", None, f"127.0.0.1:{old}"):
            with open(gate.conf, "w") as f:
                f.write(re.sub(r"web \{.*", "", text) if change is None else
                        text.replace(f"127.0.0.1:{old}", change))
            assert "ok" in gate.ctl("--json", "reload").stdout
            gate.web = int(change.split(":")[1]) if change else new
            if change is None:
                assert wait_for(lambda: not gate.up())
                assert not gate.pid_now("web.0")
            else:
                assert wait_for(gate.up, 20), change
                holds(gate.page())
        assert Client(gate).send(MAIL).startswith("250 ")
    sink.close()


tap.run()
