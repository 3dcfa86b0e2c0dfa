# SPDX-License-Identifier: ISC
"""badmilter - a filter that breaks the protocol by a script

A script is {when: what}.  When: the letter of a command, with a number for its
nth time on that connection ("R2"), "1/" before it for the first connection
only, or "accept" before any.  What: one of the
actions below or a list of them, bytes being sent as they are; b"" is silence.
Commands without an entry are answered as they should be.

After next_is_twin() one connection is the twin's: another session with the
same filter, which is served well, and whose message gets the field X-Twin.
"""
import socket
import struct
import threading
import time

from server import serve


def packet(code, data=b""):
    return struct.pack(">I", len(data) + 1) + code + data


def options(version=6, actions=0x1ff, protocol=0, lists=b""):
    return packet(b"O", struct.pack(">III", version, actions, protocol) +
                  lists)


def u32(n):
    return struct.pack(">I", n)


CONT, ACCEPT, REJECT, TEMPFAIL, DISCARD, PROGRESS, SKIP = (
    packet(c.encode()) for c in "cartdps")
TWIN = packet(b"h", b"X-Twin\0here\0")


class Over(Exception):
    """The script ends this connection."""


def close(conn):
    raise Over


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))
    raise Over


def half(conn):
    """No more from this side; the other may go on."""
    conn.shutdown(socket.SHUT_WR)


def deaf(conn):
    """Reads nothing more until the sessions are over."""
    conn.over.wait(60)
    while conn.recv(1 << 20):  # what is on its way hides the end
        pass
    raise Over


def wait(seconds):
    return lambda conn: time.sleep(seconds)


def torn(data, gap=0.0):
    """Byte by byte, each in a segment of its own."""
    def send(conn):
        for i in range(len(data)):
            conn.sendall(data[i:i + 1])
            time.sleep(gap)
    return send


def forever(data, gap=0.0):
    """The same again until the other side goes."""
    def send(conn):
        while True:
            conn.sendall(data)
            time.sleep(gap)
    return send


def slow_reader(n, gap):
    """From now on n bytes at a time and a pause after each."""
    def slow(conn):
        conn.slow = (n, gap)
    return slow


class Conn(socket.socket):
    slow = None
    over = None

    def exactly(self, n):
        data = bytearray()
        while len(data) < n:
            part = n - len(data)
            if self.slow:
                part = min(part, self.slow[0])
                time.sleep(self.slow[1])
            more = self.recv(min(part, 1 << 20))
            if not more:
                raise Over
            data += more
        return bytes(data)


class BadMilter:
    def __init__(self, script, path=None, host="127.0.0.1"):
        self.script = script
        family = socket.AF_INET if path is None else socket.AF_UNIX
        self.listener = Conn(family, socket.SOCK_STREAM)
        self.listener.bind((host, 0) if path is None else path)
        self.listener.listen(0 if "never" in script else 128)
        self.path = path
        self.lock = threading.Condition()
        self.twins = 0   # connections to come that are the twin's
        self.conns = 0   # accepted so far, without those
        self.open = 0
        self.over = threading.Event()
        self.seen = []   # commands, without the twin's; "R2": the second RCPT
        if "never" not in script:
            serve(self.listener, self._session)

    def endpoint(self):
        if self.path is not None:
            return f"unix:{self.path}"
        return "inet:{1}@{0}".format(*self.listener.getsockname())

    def next_is_twin(self):
        with self.lock:
            self.twins += 1

    def all_closed(self, seconds):
        """True once no connection is open, as none should be."""
        self.over.set()
        with self.lock:
            closed = self.lock.wait_for(lambda: self.open == 0, seconds)
        self.over.clear()
        return closed

    def _session(self, accepted):
        conn = Conn(fileno=accepted.detach())
        conn.over = self.over
        with self.lock:
            twin = self.twins > 0
            self.twins -= twin
            self.conns += not twin
            self.open += 1
            nth = 0 if twin else self.conns
        try:
            if conn.family == socket.AF_INET:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve(conn, nth)
        except (Over, OSError):
            pass
        finally:
            conn.close()
            with self.lock:
                self.open -= 1
                self.lock.notify_all()

    def _serve(self, conn, number):
        """number: of the connection, from 1; 0 is the twin's."""
        times = {}
        if number:
            self._act(conn, self.script.get("accept", b""))
        while True:
            n, = struct.unpack(">I", conn.exactly(4))
            code = conn.exactly(n)[:1].decode()
            times[code] = times.get(code, 0) + 1
            nth = f"{code}{times[code]}"
            usual = (options() if code == "O" else
                     b"" if code in "DAQK" else CONT)
            if not number:
                conn.sendall(TWIN + usual if nth == "E1" else usual)
            else:
                self.seen.append(nth)
                keys = f"{number}/{nth}", f"{number}/{code}", nth, code
                self._act(conn, next((self.script[k] for k in keys
                                      if k in self.script), usual))
            if code == "Q":
                return

    @staticmethod
    def _act(conn, what):
        for one in what if isinstance(what, list) else [what]:
            if callable(one):
                one(conn)
            elif one:
                conn.sendall(one)
