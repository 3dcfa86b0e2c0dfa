# SPDX-License-Identifier: ISC
"""nameserver - a name server that knows what a test tells it

records: {(name, type): answer}; name in lower case without the last dot; type
"A", "AAAA", "MX", "PTR", "TXT"; answer a list of values ("192.0.2.1"; (10,
"mx.test") for MX), or "SERVFAIL", or "SILENT".  A name without any record is NXDOMAIN.
"""
import socket
import struct
import threading

TYPES = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
NAMES = {v: k for k, v in TYPES.items()}


def wire_name(name):
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            out += bytes([len(label)]) + label.encode()
    return out + b"\0"


def wire_value(kind, value):
    if kind == "A":
        return socket.inet_pton(socket.AF_INET, value)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == "MX":
        return struct.pack(">H", value[0]) + wire_name(value[1])
    if kind == "TXT":
        parts = [value[i:i + 200] for i in range(0, len(value), 200)]
        return b"".join(bytes([len(p)]) + p.encode() for p in parts)
    return wire_name(value)


class NameServer:
    def __init__(self, records, port=0):
        """port: 53 in a network of the test's own (netns.py)"""
        self.records = records
        self.asked = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", port))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def address(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.sock.close()

    def _serve(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(4096)
                reply = self._answer(query)
                if reply:
                    self.sock.sendto(reply, peer)
            except (struct.error, IndexError, UnicodeDecodeError):
                continue
            except OSError:
                return

    def _answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += query[at] + 1
        name = ".".join(labels)
        kind = NAMES.get(struct.unpack(">H", query[at + 1:at + 3])[0], "?")
        question = query[12:at + 5]
        self.asked.append((name, kind))
        found = self.records.get((name, kind), [])
        if found == "SILENT":
            return None
        known = any(n == name or n.endswith("." + name)
                    for n, _ in self.records)
        code = 2 if found == "SERVFAIL" else 0 if known else 3
        values = [] if isinstance(found, str) else found
        out = query[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(values),
                                      0, 0) + question
        for value in values:
            data = wire_value(kind, value)
            out += b"\xc0\x0c" + struct.pack(">HHIH", TYPES[kind], 1, 60,
                                             len(data)) + data
        return out
