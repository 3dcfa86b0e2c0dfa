# SPDX-License-Identifier: ISC
"""miltermta - the MTA's side of the Milter protocol, for tests of filters.

One object is one SMTP session.  Each command returns the final answer: its
letter, or "" where the filter negotiated that it gives none; edits and the text
of a reply are kept in .edits and .reply.
"""
import socket
import struct

NO = {"C": 0x01, "H": 0x02, "M": 0x04, "R": 0x08, "B": 0x10, "L": 0x20,
      "N": 0x40, "U": 0x100, "T": 0x200}
NR = {"L": 0x80, "C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000,
      "T": 0x10000, "U": 0x20000, "N": 0x40000, "B": 0x80000}
EDITS = "himb+2-eq"


def z(*texts):
    return b"".join(t.encode() + b"\0" for t in texts)


class Session:
    def __init__(self, path, actions=0x1FF, protocol=0x1FFFFF, timeout=20):
        family = socket.AF_UNIX if isinstance(path, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.progress = 0
        self.edits = []
        self.reply = ""
        self.packet("O", struct.pack(">III", 6, actions, protocol))
        code, data = self.read()
        assert code == "O", (code, data)
        self.version, self.actions, self.protocol = struct.unpack(
            ">III", data[:12])
        self.macro_lists = data[12:]

    def packet(self, code, data=b""):
        self.sock.sendall(
            struct.pack(">I", len(data) + 1) + code.encode() + data)

    def exactly(self, n):
        got = b""
        while len(got) < n:
            more = self.sock.recv(n - len(got))
            if not more:
                raise EOFError("the filter has closed")
            got += more
        return got

    def read(self):
        n = struct.unpack(">I", self.exactly(4))[0]
        data = self.exactly(n)
        return data[:1].decode(), data[1:]

    def macros(self, stage, **values):
        self.packet("D", stage.encode() + b"".join(
            z(k if len(k) == 1 else "{%s}" % k, v)
            for k, v in values.items()))

    def command(self, code, data=b""):
        if code in NO and self.protocol & NO[code]:
            return ""
        self.packet(code, data)
        if code in NR and self.protocol & NR[code]:
            return ""
        self.reply = ""
        while True:
            got, data = self.read()
            if got == "p":
                self.progress += 1
            elif got in EDITS:
                self.edits.append((got, data))
            else:
                self.reply = data.rstrip(b"\0").decode()
                return got

    def connect(self, addr="192.0.2.1", name="client.test", port=1025):
        family = "6" if ":" in addr else "4"
        return self.command("C", z(name) + family.encode() +
                            struct.pack(">H", port) + z(addr))

    def helo(self, name="client.test"):
        return self.command("H", z(name))

    def mail(self, sender="<a@from.test>", *args):
        self.edits = []
        return self.command("M", z(sender, *args))

    def rcpt(self, rcpt="<b@to.test>", *args):
        return self.command("R", z(rcpt, *args))

    def content(self, fields=(("Subject", "test"),), body=b"text\r\n"):
        """The first final answer, or that of the end of the message."""
        self.command("T")
        for name, value in fields:
            got = self.command("L", z(name, value))
            if got not in ("", "c"):
                return got
        got = self.command("N")
        if got not in ("", "c"):
            return got
        for i in range(0, len(body), 65535):
            got = self.command("B", body[i:i + 65535])
            if got not in ("", "c"):
                return got
        return self.command("E")

    def abort(self):
        self.packet("A")

    def close(self):
        try:
            self.packet("Q")
        except OSError:
            pass
        self.sock.close()
