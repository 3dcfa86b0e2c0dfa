# SPDX-License-Identifier: ISC
"""sink - a next hop that keeps every message as it came over the wire.

Speaks just enough ESMTP (PIPELINING, 8BITMIME, SMTPUTF8, SIZE), keeps the
content with dot stuffing undone, and can be told to refuse.

on: {step: what}, where step is CONNECT, a verb, or DOT for the final dot, and
what is a reply, "close" (end the connection), "hang" (say nothing any more)
or a callable that returns one of these, or None for the usual reply.
"""
import socket
import threading
import time

from server import serve


class Message:
    def __init__(self, sender, rcpts, content):
        self.sender = sender
        self.rcpts = rcpts
        self.content = content
        self.at = time.monotonic()


class Sink:
    EHLO = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000000")

    def __init__(self, host="127.0.0.1", mutate=None, port=0, ehlo=EHLO,
                 on=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        self.messages = []
        self.lock = threading.Condition()
        self.refuse_rcpt = {}   # address: reply
        self.refuse_data = None  # reply at the final dot
        self.mutate = mutate     # a fault of the wire, for negative controls
        self.ehlo = ehlo         # None: EHLO is not known
        self.on = on or {}
        self.commands = []       # lines, of all connections
        self.hung = []           # connections that were left hanging
        self.connections = 0
        self.delay = 0          # seconds before the reply to the final dot
        serve(self.listener, self._session)

    def close(self):
        # else the thread that waits there may take what comes for the next
        # socket that gets this number
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def wait(self, n, seconds=20):
        """The messages, once there are n; fewer if time runs out."""
        with self.lock:
            self.lock.wait_for(lambda: len(self.messages) >= n, seconds)
            return list(self.messages)

    def _session(self, conn):
        with self.lock:
            self.connections += 1
        f = conn.makefile("rb")

        def say(text):
            conn.sendall(text.encode() + b"\r\n")

        def special(step, line=""):
            """True if it was dealt with."""
            what = self.on.get(step)
            if callable(what):
                what = what(line)
            if what is None:
                return False
            if what == "close":
                raise OSError("told to close")
            if what == "hang":
                self.hung.append(conn)
                while conn.recv(4096):
                    pass
                raise OSError("hung up")
            say(what)
            return True

        sender, rcpts = None, []
        try:
            if not special("CONNECT"):
                say("220 sink.test ESMTP")
            for line in f:
                verb = line.strip().upper()
                self.commands.append(line.decode(errors="replace").strip())
                word = verb[:4].decode(errors="replace")
                if special(word, self.commands[-1]):
                    continue
                if verb.startswith(b"EHLO"):
                    lines = ["sink.test", *(self.ehlo or ())]
                    say("500 5.5.1 what?" if self.ehlo is None else
                        "\r\n".join(f"250{'-' if i + 1 < len(lines) else ' '}"
                                    f"{text}" for i, text in enumerate(lines)))
                elif verb.startswith(b"HELO"):
                    say("250 sink.test")
                elif verb.startswith(b"MAIL FROM:"):
                    sender = line[line.index(b"<") + 1:line.index(b">")]
                    rcpts = []
                    say("250 2.1.0 ok")
                elif verb.startswith(b"RCPT TO:"):
                    rcpt = line[line.index(b"<") + 1:line.index(b">")]
                    reply = self.refuse_rcpt.get(rcpt.decode())
                    if reply is None:
                        rcpts.append(rcpt.decode())
                    say(reply or "250 2.1.5 ok")
                elif verb == b"DATA":
                    if not rcpts:
                        say("554 5.5.1 no valid recipients")
                        continue
                    say("354 go on")
                    content = self._data(f)
                    if content is None:
                        return
                    if special("DOT"):
                        continue
                    if self.refuse_data:
                        say(self.refuse_data)
                        continue
                    if self.delay:
                        time.sleep(self.delay)
                    if self.mutate:
                        content = self.mutate(content)
                    with self.lock:
                        self.messages.append(
                            Message(sender.decode(), rcpts, content))
                        self.lock.notify_all()
                    say("250 2.0.0 kept")
                elif verb == b"RSET":
                    say("250 2.0.0 ok")
                elif verb == b"NOOP":
                    say("250 2.0.0 ok")
                elif verb == b"QUIT":
                    say("221 2.0.0 bye")
                    return
                else:
                    say("500 5.5.1 what?")
        except (OSError, ValueError):
            pass
        finally:
            conn.close()

    @staticmethod
    def _data(f):
        lines = []
        for line in f:
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if line.startswith(b".") else line)
        return None
