# SPDX-License-Identifier: ISC
"""milterclient - speak Milter to a filter as an MTA does, and start filters.

The packets are written by hand from the protocol: a fault in the project's own
codec cannot hide here.
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

from gateway import INST, wait_for
from process import end
from sanitizer import refuse_reports

NO_REPLY = {0x1000: b"C", 0x2000: b"H", 0x4000: b"M", 0x8000: b"R",
            0x10000: b"T", 0x80: b"L", 0x40000: b"N", 0x80000: b"B"}
NOT_WANTED = {0x01: b"C", 0x02: b"H", 0x04: b"M", 0x08: b"R", 0x10: b"B",
              0x20: b"L", 0x40: b"N", 0x200: b"T"}
ACTIONS = {"add": 0x01, "body": 0x02, "addrcpt": 0x04, "delrcpt": 0x08,
           "change": 0x10, "quarantine": 0x20, "sender": 0x40}


class Milter:
    """One session with a filter."""

    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.send(b"O", struct.pack(">III", 6, 0x1FF, 0x1FFFFF))
        code, data = self.recv()
        if code != b"O":
            raise RuntimeError(f"negotiation: {code}")
        self.version, self.actions, protocol = struct.unpack(">III", data[:12])
        self.silent = {c for bit, c in NO_REPLY.items() if protocol & bit}
        self.skipped = {c for bit, c in NOT_WANTED.items() if protocol & bit}
        self.leading_space = bool(protocol & 0x100000)
        self.wants_body = b"B" not in self.skipped

    def send(self, code, data=b""):
        self.sock.sendall(struct.pack(">I", len(data) + 1) + code + data)

    def recv(self):
        n, = struct.unpack(">I", self.read(4))
        packet = self.read(n)
        return packet[:1], packet[1:]

    def read(self, n):
        parts = b""
        while len(parts) < n:
            part = self.sock.recv(n - len(parts))
            if not part:
                raise EOFError("the filter closed the connection")
            parts += part
        return parts

    def macros(self, stage, **values):
        data = b"".join(k.encode() + b"\0" + v.encode() + b"\0"
                        for k, v in values.items())
        self.send(b"D", stage + data)

    def ask(self, code, data=b""):
        """The reply's code, b"c" where the filter declared to give none."""
        if code in self.skipped:
            return b"c"
        self.send(code, data)
        if code in self.silent:
            return b"c"
        while True:
            reply, data = self.recv()
            if reply != b"p":
                self.text = data.rstrip(b"\0").decode("latin-1")
                return reply

    def connect(self, host="client.test", addr="192.0.2.1", helo="client.test"):
        self.macros(b"C", j="gate.test")
        r = self.ask(b"C", host.encode() + b"\0" + b"4" +
                     struct.pack(">H", 1025) + addr.encode() + b"\0")
        return r if r != b"c" else self.ask(b"H", helo.encode() + b"\0")

    def message(self, header, body=b"", sender="a@a.test",
                rcpts=("b@b.test",), queue_id="Q1", before_end=None):
        """Send one message; returns a Result.  header: [(name, value)]."""
        self.macros(b"M", i=queue_id)
        r = self.ask(b"M", f"<{sender}>".encode() + b"\0")
        for rcpt in rcpts:
            if r == b"c":
                r = self.ask(b"R", f"<{rcpt}>".encode() + b"\0")
        if r == b"c":
            r = self.ask(b"T")
        space = " " if self.leading_space else ""
        for name, value in header:
            if r == b"c":
                r = self.ask(b"L", name.encode() + b"\0" +
                             (space + value).encode("latin-1") + b"\0")
        if r == b"c":
            r = self.ask(b"N")
        at = 0
        while r == b"c" and self.wants_body and at < len(body):
            r = self.ask(b"B", body[at:at + 65535])
            at += 65535
        if r not in (b"c", b"s"):
            return Result(r, self.text, [])
        if before_end:
            before_end()
        return self.end()

    def end(self):
        self.send(b"E")
        edits = []
        while True:
            code, data = self.recv()
            if code in b"catrdy":
                text = data.rstrip(b"\0").decode("latin-1")
                return Result(code, text, edits)
            if code != b"p":
                edits.append(edit(code, data))

    def close(self):
        try:
            self.send(b"Q")
        except OSError:
            pass
        self.sock.close()


def edit(code, data):
    """One edit as a tuple of its kind and arguments."""
    text = data.decode("latin-1")
    if code == b"h":
        return ("add", *text.split("\0")[:2])
    if code in b"im":
        index, = struct.unpack(">I", data[:4])
        kind = "insert" if code == b"i" else "change"
        return (kind, index, *text[4:].split("\0")[:2])
    if code == b"e":
        return ("sender", text.split("\0")[0])
    if code == b"q":
        return ("quarantine", text.rstrip("\0"))
    return (code.decode(), text)


class Result:
    def __init__(self, code, text, edits):
        self.code, self.text, self.edits = code, text, edits

    def __repr__(self):
        return f"{self.code} {self.text!r} {self.edits}"


def program(name):
    """One of the project's filters, or a path."""
    return os.path.join(INST, "libexec/milldam", name)


def installed(name):
    return os.access(program(name), os.X_OK)


class Filter:
    """A filter of the project on a Unix socket in a folder of its own."""

    def __init__(self, name, settings, engine="events"):
        self.program = program(name)
        self.engine = engine
        self.dir = tempfile.mkdtemp(prefix="milldam-test.", dir="/tmp")
        self.path = os.path.join(self.dir, "socket")
        self.conf = os.path.join(self.dir, "filter.conf")
        self.write(settings)
        self.proc = None

    def write(self, settings):
        with open(self.conf, "w") as f:
            f.write(settings.replace("@DIR@", self.dir))

    def check(self):
        """(exit status, output) of the program's -n."""
        r = subprocess.run([self.program, "-n", "-c", self.conf],
                           stdin=subprocess.DEVNULL, capture_output=True,
                           text=True, timeout=60)
        refuse_reports(r.stderr)
        return r.returncode, r.stdout + r.stderr

    def start(self, seconds=30):
        self.logfile = open(os.path.join(self.dir, "log"), "ab")
        self.proc = subprocess.Popen(
            [self.program, "-f", "-p", "unix:" + self.path, "-c", self.conf,
             "-e", self.engine],
            stdin=subprocess.DEVNULL, stdout=self.logfile, stderr=self.logfile)
        if not wait_for(self.answers, seconds):
            raise RuntimeError("the filter did not start: " + self.log())
        return self

    def answers(self):
        if self.proc.poll() is not None:
            raise RuntimeError("the filter ended: " + self.log())
        try:
            Milter(self.path).close()
            return True
        except OSError:
            return False

    def session(self, timeout=60):
        m = Milter(self.path, timeout)
        m.connect()
        return m

    def scan(self, header, body=b"", **more):
        """One message in a session of its own."""
        m = self.session()
        try:
            return m.message(header, body, **more)
        finally:
            m.close()

    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def stop(self):
        if self.proc is None:
            return 0
        status = end(self.proc)
        self.proc = None
        refuse_reports(self.log())
        return status

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        status = self.stop()
        if exc[0] is not None:
            sys.stderr.write(self.log()[-4000:])
        shutil.rmtree(self.dir, ignore_errors=True)
        if exc[0] is None and status != 0:
            raise RuntimeError(f"the filter ended with status {status}")


def children(pid):
    """Process ids of the children of pid, all below it included."""
    found, parents = [], {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(name)] = int(fields[1])
    todo = [pid]
    while todo:
        at = todo.pop()
        below = [p for p, parent in parents.items() if parent == at]
        found += below
        todo += below
    return found


def process_name(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


def run_tests(cases):
    """TAP for a list of functions; the sentence is the docstring."""
    print(f"1..{len(cases)}", flush=True)
    bad = 0
    for i, case in enumerate(cases, 1):
        try:
            case()
            print(f"ok {i} - {case.__doc__}", flush=True)
        except Exception as e:  # a failed case must not stop the others
            bad = 1
            where = e.__traceback__.tb_next or e.__traceback__
            print(f"# line {where.tb_lineno}: {type(e).__name__}: "
                  + str(e).replace("\n", "\n# "))
            print(f"not ok {i} - {case.__doc__}", flush=True)
    return bad


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def has(text, part):
    if part not in text:
        raise AssertionError(f"{part!r} is not in {text!r}")
