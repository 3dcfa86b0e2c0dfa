# SPDX-License-Identifier: ISC
"""watched - a gateway with a metrics page, and what the page says of mail"""
import socket
import time

from gateway import Gateway, free_port, wait_for
from prometheus import Page

ENDS = ("delivered", "bounced", "discarded", "deleted")
STATES = ("queued", "quarantined")


class Watched(Gateway):
    def __init__(self, *args, extra="", **kw):
        self.web = free_port()
        super().__init__(
            *args, extra=f'web {{ address = {{"127.0.0.1:{self.web}"}} }}\n'
            + extra, **kw)

    def raw(self, request, seconds=15):
        with socket.create_connection(("127.0.0.1", self.web), 5) as s:
            s.settimeout(seconds)
            s.sendall(request)
            data = b""
            while True:
                more = s.recv(65536)
                if not more:
                    return data
                data += more

    def get(self, path, method="GET", headers=""):
        """(status, header text, body)"""
        data = self.raw(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
                        f"{headers}\r\n".encode())
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), body

    def page(self):
        status, _, body = self.get("/metrics")
        assert status == 200, (status, body)
        return Page(body.decode())

    def up(self):
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def pid_now(self, name):
        """0 while it does not run"""
        for p in self.ctl_json("status")["processes"]:
            if p["name"] == name:
                return p["pid"]
        return 0


def balance(page, origin):
    """{what: recipients}"""
    b = {"accepted": page.sum("milldam_recipients_accepted_total",
                              origin=origin)}
    for e in ENDS:
        b[e] = page.sum("milldam_recipients_ended_total", origin=origin,
                        outcome=e)
    for s in STATES:
        b[s] = page.sum("milldam_recipients_waiting", origin=origin, state=s)
    assert None not in b.values(), b
    return b


def holds(page):
    for origin in ("client", "own"):
        b = balance(page, origin)
        assert b["accepted"] == sum(b[x] for x in ENDS + STATES), (origin, b)
        assert page.sum("milldam_recipients_unaccounted", origin=origin) == 0
    return balance(page, "client")


def in_queue(gate):
    """recipients that wait by `queue list`: (queued, quarantined)"""
    n = [0, 0]
    for m in gate.ctl_json("queue", "list"):
        if m["sender"] == "":
            continue
        n[m["state"] == "held"] += sum(
            r["state"] == "waiting" for r in m["recipients"])
    return tuple(n)


def settled(gate, want, seconds=40):
    """The balance once it is want (some of its members)."""
    def look():
        time.sleep(0.6)  # the page is as old as half a second
        b = holds(gate.page())
        return all(b[k] == v for k, v in want.items()) and b
    got = wait_for(look, seconds)
    assert got, (want, holds(gate.page()))
    return got
