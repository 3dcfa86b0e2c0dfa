# SPDX-License-Identifier: ISC
"""fakemilter - a filter that does as it is told, right or wrong"""
import socket
import struct

from server import serve


def packet(command, data=b""):
    return struct.pack(">I", len(data) + 1) + command + data


OPTIONS = packet(b"O", struct.pack(">III", 6, 0x1ff, 0))


class FakeMilter:
    """answers: {command letter: bytes to send, or callable(conn) -> bytes};
    what is not there is answered with "continue".  None: no answer at all;
    "close": the connection ends."""

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.seen = []  # (command, data), of all sessions
        serve(self.listener, self._session)

    def endpoint(self):
        return f"inet:{self.port}@127.0.0.1"

    def close(self):
        # else the thread that waits there may take what comes for the next
        # socket that gets this number
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def commands(self):
        return "".join(c.decode() for c, _ in self.seen)

    @staticmethod
    def _exactly(conn, n):
        data = b""
        while len(data) < n:
            more = conn.recv(n - len(data))
            if not more:
                raise OSError("end")
            data += more
        return data

    def _session(self, conn):
        try:
            while True:
                n, = struct.unpack(">I", self._exactly(conn, 4))
                data = self._exactly(conn, n)
                command, data = data[:1], data[1:]
                self.seen.append((command, data))
                answer = self.answers.get(
                    command.decode(), OPTIONS if command == b"O" else
                    b"" if command in b"DAQK" else packet(b"c"))
                if answer == "close":
                    return
                if callable(answer):
                    answer = answer(conn)
                if answer:
                    conn.sendall(answer)
                if command == b"Q":
                    return
        except OSError:
            pass
        finally:
            conn.close()
