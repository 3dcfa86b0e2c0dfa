# SPDX-License-Identifier: ISC
"""mails - messages and clients that several tests send"""
import base64
import socket

from gateway import Client

# The EICAR test file, in two parts so that no scanner removes this one.
EICAR = (rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" +
         b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")

HEAD = (b"From: Anna <anna@milldam.test>\r\nTo: Bo <bo@example.test>\r\n"
        b"Message-ID: <%s@milldam.test>\r\nSubject: %s\r\n")


def eicar_mail():
    return (HEAD % (b"eicar", b"a file for you") +
            b"MIME-Version: 1.0\r\n"
            b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
            b"--b\r\nContent-Type: text/plain\r\n\r\nsee attachment\r\n"
            b"--b\r\nContent-Type: application/octet-stream;"
            b' name="x.com"\r\nContent-Transfer-Encoding: base64\r\n\r\n' +
            base64.encodebytes(EICAR).replace(b"\n", b"\r\n") +
            b"--b--\r\n")


def stranger(gate, address="127.0.0.2", port=None):
    """A client from 127.0.0.2, outside the relay networks of the tests, or
    from another address."""
    c = Client.__new__(Client)
    c.sock = socket.socket()
    c.sock.bind((address, 0))
    c.sock.settimeout(60)
    c.sock.connect((gate.host, port or gate.port))
    c.file = c.sock.makefile("rb")
    c.greeting = c.reply()
    return c
