# SPDX-License-Identifier: ISC
"""gateway - start Milldam on loopback for a test, and end it by process id.

Uses the tree installed by ./check (MILLDAM_INST).  As root each process gets
a uid of its own (uid-base); else all run as the caller.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from process import end
from sanitizer import LogReader, Report, refuse_reports

INST = os.environ.get("MILLDAM_INST", "")
TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def wait_for(what, seconds=20, step=0.05):
    """The first true value of what(), or the last false one."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


class Gateway:
    """A gateway that relays everything to one port, or (None) as route says.

    chain: names in order, the authoriser "access" first; milters: extra
    configuration text; files: {name: text} beside the configuration.
    """

    def __init__(self, sink_port, chain=("access",), milters="", extra="",
                 files=None, ipv6=False, env=None, access=None, route=""):
        self.dir = tempfile.mkdtemp(prefix="milldam-test.", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.host = "127.0.0.1"
        self.env = dict(os.environ, **(env or {}))
        self.addresses = [f"127.0.0.1:{self.port}"]
        if ipv6:
            self.port6 = free_port("::1")
            self.addresses.append(f"[::1]:{self.port6}")
        for name, text in (files or {}).items():
            with open(os.path.join(self.dir, name), "w") as f:
                f.write(text)
        with open(os.path.join(self.dir, "access.conf"), "w") as f:
            f.write(access or "relay-networks = {127.0.0.0/8, ::1}\n")
        self.conf = os.path.join(self.dir, "milldam.conf")
        uid = "uid-base = 64100\n" if os.getuid() == 0 else ""
        names = ", ".join(f'"{c}"' for c in chain)
        addrs = ", ".join(f'"{a}"' for a in self.addresses)
        if sink_port is not None:
            route = f'smart-host = "smtp:[127.0.0.1]:{sink_port}" {route}'
        route = route.replace("DIR", self.dir)
        with open(self.conf, "w") as f:
            f.write(f"""hostname = "gate.test"
postmaster = "postmaster@gate.test"
spool = "{self.dir}/spool"
run-directory = "{self.dir}/run"
log = stderr
{uid}route {{ {route} }}
milter "access" {{ run = "milldam-access" settings = "access.conf" }}
{milters}
policy "inbound" {{ authorise = "access" chain = {{ {names} }} }}
listener "mx" {{ address = {{ {addrs} }} policy = "inbound" }}
{extra}
""")
        self.proc = None
        self.reports = LogReader()
        self.prefix = []  # what runs the gateway, if anything

    def start(self, seconds=20):
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.proc = subprocess.Popen(
            [*self.prefix, os.path.join(INST, "sbin/milldam"), "-f",
             self.conf],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=self.env)
        if not wait_for(self.answers, seconds):
            sys.stderr.write(self.log_text())
            self.kill()
            raise RuntimeError("the gateway did not start")
        return self

    def answers(self):
        """True once the greeting is a 220."""
        try:
            with socket.create_connection((self.host, self.port), 5) as s:
                s.settimeout(5)
                return s.recv(4) == b"220 "
        except OSError:
            return False

    def stop(self):
        if self.proc is None:
            return 0
        status = end(self.proc)
        self.proc = None
        self.refuse_reports()
        return status

    def kill(self):
        if self.proc is not None:
            self.proc.kill()
            self.proc.wait()
            self.proc = None

    def refuse_reports(self):
        """Raise if a sanitizer reported anything in any process."""
        self.reports.refuse_reports(os.path.join(self.dir, "log"))

    def remove(self):
        try:
            self.stop()
            self.refuse_reports()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def ctl(self, *words):
        p = subprocess.run(
            [os.path.join(INST, "bin/milldamctl"), "-s",
             os.path.join(self.dir, "run/control"), *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=30)
        refuse_reports(p.stderr)
        return p

    def ctl_json(self, *words):
        out = self.ctl("--json", *words)
        return json.loads(out.stdout)

    def pid(self, name):
        """The process of that name, or the first of that kind, once it runs:
        one that is being started has the number 0, and a signal to that would
        go to the test itself."""
        def look():
            return next((p["pid"] for p in self.ctl_json("status")["processes"]
                         if name in (p["name"], p["name"].split(".")[0])), 0)
        number = wait_for(look)
        assert number > 1, f"{name} does not run"
        return number

    def held(self):
        """The held messages; notices on their way are not among them."""
        return [m for m in self.ctl_json("queue", "list")
                if m["state"] == "held"]

    def log_text(self):
        """What it logged so far."""
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        if exc[0] not in (None, SystemExit, Report):
            sys.stderr.write(self.log_text()[-4000:])
        self.remove()


class Client:
    """A raw SMTP client: what a test says is what leaves."""

    def __init__(self, gateway, host=None, port=None):
        self.sock = socket.create_connection(
            (host or gateway.host, port or gateway.port), 30)
        self.sock.settimeout(60)
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()

    def reply(self):
        lines = []
        while True:
            line = self.file.readline()
            lines.append(line.decode(errors="replace").rstrip("\r\n"))
            if len(line) < 4 or line[3:4] != b"-":
                return "\n".join(lines)

    def say(self, line):
        data = line if isinstance(line, bytes) else line.encode()
        self.sock.sendall(data + b"\r\n")
        return self.reply()

    def send(self, content, sender="a@from.test", rcpts=("b@to.test",),
             ehlo=True):
        """One message; the last reply.  content: CRLF lines, not stuffed."""
        if not self.greeting.startswith("220"):
            return self.greeting
        if ehlo:
            self.say("EHLO client.test")
        got = self.say(f"MAIL FROM:<{sender}>")
        if not got.startswith("250"):
            return got
        last = ""
        ok = 0
        for r in rcpts:
            last = self.say(f"RCPT TO:<{r}>")
            ok += last.startswith("250")
        if not ok:
            return last
        got = self.say("DATA")
        if not got.startswith("354"):
            return got
        self.sock.sendall(stuff(content) + b".\r\n")
        return self.reply()

    def close(self):
        self.file.close()
        self.sock.close()


def stuff(content):
    """Dot stuffing; content ends with CRLF or is empty."""
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..")


def without_trace(content):
    """Content without the gateway's own Received field on top."""
    assert content.lower().startswith(b"received:"), content[:200]
    at = content.index(b"\r\n")
    while content[at + 2:at + 3] in (b" ", b"\t"):
        at = content.index(b"\r\n", at + 2)
    return content[at + 2:]


class Tap:
    """TAP: @tap.test("sentence") on functions, then tap.run()."""

    def __init__(self):
        self.cases = []

    def test(self, name):
        def add(fn):
            self.cases.append((name, fn))
            return fn
        return add

    def run(self):
        print(f"1..{len(self.cases)}")
        bad = 0
        for i, (name, fn) in enumerate(self.cases, 1):
            try:
                fn()
                print(f"ok {i} - {name}", flush=True)
            except Exception as e:  # a failed case must not end the others
                bad = 1
                import traceback
                for line in traceback.format_exc().splitlines():
                    print("# " + line)
                print(f"not ok {i} - {name}: {type(e).__name__}", flush=True)
        sys.exit(bad)
