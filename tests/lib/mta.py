# SPDX-License-Identifier: ISC
"""mta - other people's servers and milters, for interoperation tests.

Each runs in mount, process and host-name namespaces of its own; ending the
first process ends all.  Needs root.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from gateway import TOP, free_port, wait_for
from packages import unpack

PACKAGES = {
    "postfix": ["postfix"],
    "sendmail": ["sendmail-bin", "sendmail-base", "sendmail-cf", "m4",
                 "libwrap0", "liblockfile1"],
}


class Syslog:
    """A socket like /dev/log, and what was sent to it."""

    def __init__(self, path):
        self.text = ""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        os.chmod(path, 0o666)
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        self.sock.close()

    def _read(self):
        try:
            while True:
                line = self.sock.recv(65536).decode(errors="replace")
                self.text += line.rstrip("\0\n") + "\n"
        except OSError:
            pass


class Boxed:
    """A program of unpacked packages; port: wait until it listens there."""

    def __init__(self, kind, root, port, **env):
        self.port = port
        self.dir = tempfile.mkdtemp(prefix=f"milldam-{kind}.", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.log = open(self.dir + "/out", "w")
        os.mkdir(self.dir + "/dev")
        self.syslog = Syslog(self.dir + "/dev/log")
        self.proc = subprocess.Popen(
            ["unshare", "-m", "-p", "-u", "-f", "--mount-proc",
             "--kill-child", "bash", TOP + "/tests/lib/mta.sh", kind],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True,
            env=dict(os.environ, ROOT=root, DIR=self.dir, PORT=str(port),
                     **{k: str(v) for k, v in env.items()}))
        if not wait_for(self.listens, 60, 0.1):
            sys.stderr.write(self.text())
            self.stop()
            raise RuntimeError(f"{kind} did not start")

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            return True
        except OSError:
            return False

    def text(self):
        out = ""
        for name in ("out", "log/mail.log"):
            path = f"{self.dir}/{name}"
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    out += f.read()[-4000:]
        return out

    def logged(self):
        """All that it printed or sent to syslog."""
        self.log.flush()
        with open(self.dir + "/out", errors="replace") as f:
            return f.read() + self.syslog.text

    def stop(self):
        if self.proc is not None:
            self.proc.send_signal(signal.SIGKILL)
            self.proc.wait()
            self.proc = None
        self.log.close()
        self.syslog.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            sys.stderr.write(self.text())
        self.stop()


def server(kind, sink_port, milters):
    """Postfix or Sendmail: relays everything, asks these milters."""
    root = unpack(kind, PACKAGES[kind], closure=kind == "postfix")
    return Boxed(kind, root, free_port(), SINK=sink_port,
                 MILTERS=" ".join(milters))


def program(title, packages, argv, port):
    """Any program of Debian packages."""
    return Boxed("command", unpack(title, packages), port, ARGV=argv,
                 SINK=0, MILTERS="")
