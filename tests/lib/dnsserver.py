# SPDX-License-Identifier: ISC
"""dnsserver - just enough DNS for a filter that looks up policies.

Port 53 of an address of 127/8 that nothing else uses: resolvers of the C
library know no other port.  Needs root.
"""
import os
import socket
import struct
import threading

TYPES = {1: "A", 16: "TXT"}


class DnsServer:
    """records: {(name, "TXT"): text, (name, "A"): address}"""

    def __init__(self, records):
        self.records = records
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        pid = os.getpid()
        self.address = f"127.{53 + pid // 65025 % 200}." \
                       f"{pid // 255 % 255}.{1 + pid % 254}"
        self.sock.bind((self.address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.sock.close()

    def _serve(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(4096)
                self.sock.sendto(self._answer(query), peer)
            except (struct.error, IndexError, UnicodeDecodeError):
                continue
            except OSError:
                return

    def _answer(self, query):
        at = 12
        labels = []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        kind, = struct.unpack(">H", query[at + 1:at + 3])
        question = query[12:at + 5]
        name = ".".join(labels)
        value = self.records.get((name, TYPES.get(kind)))
        known = any(n == name or n.endswith("." + name)
                    for n, _ in self.records)
        flags = 0x8580 if known else 0x8583
        head = query[:2] + struct.pack(">HHHHH", flags, 1,
                                       value is not None, 0, 0)
        if value is None:
            return head + question
        if kind == 1:
            data = socket.inet_aton(value)
        else:
            parts = [value[i:i + 200].encode()
                     for i in range(0, len(value), 200)]
            data = b"".join(bytes([len(p)]) + p for p in parts)
        return (head + question + b"\xc0\x0c" +
                struct.pack(">HHIH", kind, 1, 60, len(data)) + data)
