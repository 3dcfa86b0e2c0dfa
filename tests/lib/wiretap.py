# SPDX-License-Identifier: ISC
"""wiretap - hear what a gateway and a filter say to each other

A Wiretap listens where the gateway believes the filter to be, hands every byte
on as it comes, and keeps the packets of the Milter protocol.
"""
import re
import socket
import struct
import threading

from server import serve

STAGES = {c: i for i, c in enumerate("CHMRTNE")}
CHANGES = {"h": "add", "i": "insert", "m": "change", "b": "body",
           "+": "add-rcpt", "2": "add-rcpt", "-": "del-rcpt", "e": "from",
           "q": "quarantine"}
VERDICTS = {"c": "continue", "a": "accept", "d": "discard", "r": "reject",
            "t": "tempfail", "y": "reply", "s": "skip"}


class Session:
    """One connection: how it was negotiated, and the macros that libmilter
    would have at hand."""

    def __init__(self):
        self.offer = None    # version, actions, protocol of the gateway's
        self.answer = None   # the same of the filter's
        self.lists = {}      # stage's number: names that the filter asked for
        self.macros = {}     # command: {name: value}

    def visible(self):
        found = {}
        for stage in sorted(self.macros, key=lambda c: STAGES.get(c, 9)):
            found.update(self.macros[stage])
        return found

    def command(self, code, data):
        if code == "O":
            self.offer = struct.unpack(">III", data[:12])
        elif code == "D":
            words = data[1:].decode(errors="replace").split("\0")[:-1]
            self.macros[chr(data[0])] = {
                n.strip("{}"): v for n, v in zip(words[::2], words[1::2])}
        elif code == "K":
            self.macros = {}
        elif code in "CHMR":
            # what came for this command stays, later stages begin anew
            self.macros = {c: m for c, m in self.macros.items()
                           if STAGES.get(c, 9) <= STAGES[code]}

    def negotiated(self, data):
        self.answer = struct.unpack(">III", data[:12])
        rest = data[12:]
        while len(rest) > 4:
            names, _, after = rest[4:].partition(b"\0")
            self.lists[struct.unpack(">I", rest[:4])[0]] = \
                re.findall(r"[^\s,{}]+", names.decode(errors="replace"))
            rest = after


class Wiretap:
    def __init__(self, port):
        """port: where the filter listens, on 127.0.0.1"""
        self.to = port
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.sessions = []
        self.commands = []   # codes, as they were sent
        self.answers = []    # codes, as they came
        self.messages = []   # the macros visible at each end of message
        self.aborted = []    # and at each ABORT
        serve(self.listener, self._session)

    def close(self):
        self.listener.close()

    def _session(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self.to), 20)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        s = Session()
        self.sessions.append(s)
        for source, to, hear in ((near, far, self._command),
                                 (far, near, self._answer)):
            threading.Thread(target=self._copy, daemon=True,
                             args=(source, to, s, hear)).start()

    @staticmethod
    def _copy(source, to, session, hear):
        kept = b""
        try:
            while data := source.recv(65536):
                kept += data
                # heard first: who waits for what it leads to finds it here
                while len(kept) >= 5 and len(kept) >= 4 + (
                        n := struct.unpack(">I", kept[:4])[0]) and n > 0:
                    hear(session, chr(kept[4]), kept[5:4 + n])
                    kept = kept[4 + n:]
                to.sendall(data)
        except OSError:
            pass
        for s in (source, to):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _command(self, session, code, data):
        session.command(code, data)
        self.commands.append(code)
        if code == "E":
            self.messages.append(session.visible())
        elif code == "A":
            self.aborted.append(session.visible())

    def _answer(self, session, code, data):
        self.answers.append(code)
        if code == "O":
            session.negotiated(data)

    def answer(self):
        """What the filter made of the first offer."""
        return next((s.answer for s in self.sessions if s.answer), None)

    def stages(self):
        """The commands that it got, in the order of a session."""
        return [c for c in "CHMRTLNBE" if c in self.commands]

    def changes(self):
        return sorted({CHANGES[c] for c in self.answers if c in CHANGES})

    def verdicts(self):
        return sorted({VERDICTS[c] for c in self.answers if c in VERDICTS})

    def asked(self):
        """Macros that it asked for by name."""
        return sorted({n for s in self.sessions for names in s.lists.values()
                       for n in names})
