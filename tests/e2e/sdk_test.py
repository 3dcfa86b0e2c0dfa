# SPDX-License-Identifier: ISC
# slow
"""sdk_test - filters built with the installed SDK, on their sockets"""
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
from gateway import INST, Tap, free_port, wait_for  # noqa: E402
from miltermta import Session, z  # noqa: E402
from pair import ENGINES, Pair  # noqa: E402
from sanitizer import refuse_reports  # noqa: E402

tap = Tap()
engine = ENGINES[0]  # of the test in hand
DIR = tempfile.mkdtemp(prefix="milldam-sdk.", dir="/tmp")
ENV = dict(os.environ,
           PKG_CONFIG_PATH=os.path.join(INST, "lib/pkgconfig"))
SANITIZE = os.environ.get("MILLDAM_SANITIZE", "").split()
FILTER = os.path.join(DIR, "sdk-filter")
ACCESS = os.path.join(INST, "libexec/milldam/milldam-access")


def both(name):
    """A test for each back-end, with a folder of its own."""
    def add(fn):
        def one(which):
            global engine, DIR
            engine, DIR = which, os.path.join(DIR, which)
            os.makedirs(DIR, exist_ok=True)
            fn()
        pair = Pair(one)
        for which in ENGINES:
            tap.test(f"{which}: {name}")(lambda w=which: pair.wait(w))
        return fn
    return add


def write(name, text):
    path = os.path.join(DIR, name)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)  # who reads it now reads the whole of one
    return path


def command(*words, **kw):
    return subprocess.run(words, stdin=subprocess.DEVNULL, timeout=120,
                          capture_output=True, text=True, env=ENV, **kw)


class Running:
    """A filter's process on a socket below DIR."""
    n = 0

    def __init__(self, program, settings="", *args, env=None, where=None):
        Running.n += 1
        self.path = os.path.join(DIR, f"s{Running.n}")
        self.conf = write(f"c{Running.n}", settings)
        self.log = os.path.join(DIR, f"l{Running.n}")
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen(
                [program, "-p", where or "unix:" + self.path, "-c", self.conf,
                 "-e", engine, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(os.environ, **(env or {})))
        assert wait_for(lambda: "started" in self.text()), self.text()

    def text(self):
        with open(self.log) as f:
            return f.read()

    def session(self, **kw):
        return Session(self.path, **kw)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            sys.stderr.write(self.text()[-2000:])
        self.stop()

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        status = self.proc.wait(20)
        refuse_reports(self.text())
        return status


def same(got, want):
    assert got == want, f"{got!r} is not {want!r}"


@tap.test("builds a filter with pkg-config alone")
def builds():
    flags = command("pkg-config", "--cflags", "--libs", "milldam")
    same(flags.returncode, 0)
    assert "-lmilter" not in flags.stdout
    words = flags.stdout.split()
    got = command(os.environ.get("CC", "cc").split()[0], "-Wall", "-Wextra",
                  "-Werror", "-D_GNU_SOURCE", "-o", FILTER,
                  os.path.join(HERE, "sdk_filter.c"), *words,
                  "-Wl,-rpath," + os.path.join(INST, "lib"),
                  *SANITIZE)
    assert got.returncode == 0, got.stderr


@tap.test("builds the examples and passes their tests")
def examples():
    for name in ("tag-external", "block-attachment"):
        src = os.path.join(INST, "share/milldam/examples", name)
        dst = os.path.join(DIR, name)
        shutil.copytree(src, dst)
        how = ["CFLAGS=-g " + " ".join(SANITIZE)] if SANITIZE else []
        got = command("make", "-s", "all", "check", *how, cwd=dst)
        assert got.returncode == 0, got.stdout + got.stderr
        assert "ok 5" in got.stdout and "not ok" not in got.stdout
        got = command(os.path.join(dst, "milldam-" + name), "-n", "-c",
                      os.path.join(dst, name + ".conf"))
        assert got.returncode == 0, got.stderr


@tap.test("builds and runs the filter of the installed manual page")
def manual():
    with open(os.path.join(INST, "share/man/man3/milldam.3")) as f:
        page = f.read()
    text = page[page.index(".Sh EXAMPLES"):]
    text = text[text.index("#include"):text.index(".Ed")]
    source = write("outside.c", text.replace("\\e", "\\"))
    program = os.path.join(DIR, "outside")
    flags = command("pkg-config", "--cflags", "--libs", "milldam").stdout
    got = command(os.environ.get("CC", "cc").split()[0], "-Wall", "-Wextra",
                  "-Werror", "-o", program, source, *flags.split(),
                  "-Wl,-rpath," + os.path.join(INST, "lib"), *SANITIZE)
    assert got.returncode == 0, got.stderr
    with Running(program) as r:
        s = r.session()
        s.connect("192.0.2.1")
        same(s.mail("<a@local>"), "y")
        same(s.reply, "550 5.1.8 local: no such domain")
        same(s.mail("<a@from.test>"), "c")
        same(s.content(), "c")
        same(s.edits, [("h", z("X-Outside", "192.0.2.1"))])
        s.close()
    # every function's page is found by its name
    for name in ("mill_main", "mill_rcpt_at", "mill_test_eml"):
        path = os.path.join(INST, "share/man/man3", name + ".3")
        assert os.path.exists(path), path


@tap.test("an example tags mail from outside on the wire")
def example_runs():
    program = os.path.join(DIR, "tag-external/milldam-tag-external")
    with Running(program) as r:
        s = r.session()
        same(s.connect("192.0.2.1"), "")
        same(s.mail(), "")
        same(s.rcpt(), "")
        same(s.content(), "c")
        same(s.edits, [("m", b"\0\0\0\1Subject\0[EXTERNAL] test\0"),
                       ("h", b"X-External\0yes\0")])
        s.close()


@both("asks only for what its stages need")
def negotiates():
    with Running(ACCESS) as r:
        s = r.session()
        same(s.actions, 0x28)  # delete recipients, quarantine
        # no HELO, header, end of header, body, DATA or unknown command; no
        # reply to CONNECT and MAIL; RCPT always answered
        same(s.protocol, 0x372 | 0x5000)
        same(s.macro_lists, b"")
        s.close()
    with Running(FILTER) as r:
        s = r.session()
        same(s.protocol & 0x3ff, 0x2c0 | 0x100)
        same(s.protocol & 0xff000, 0x85000)  # HELO, RCPT are answered
        same(s.macro_lists, struct.pack(">I", 0) +
             b"j _ {daemon_name} {client_ptr}\0")
        s.close()
        s = r.session(actions=0x3f, protocol=0x3f)  # an older MTA
        same(s.actions, 0x3f)
        same((s.connect(), s.helo(), s.mail(), s.rcpt()), ("c",) * 4)
        s.protocol |= 0x200  # it has no DATA command
        same(s.content(), "c")
        s.close()


@both("edits a message of which it reads nothing")
def bare():
    with Running(FILTER, env={"SDK_BARE": "1"}) as r:
        s = r.session()
        same(s.protocol & 0x37f, 0x37f)
        # Sendmail heeds a list of the end of message beside one of the
        # end of header only
        same(s.macro_lists, struct.pack(">I", 5) + b"i {msg_id}\0" +
             struct.pack(">I", 6) + b"i\0")
        for n in "12":
            s.macros("E", i="Q" + n)
            same(s.content(), "c")
            same(s.edits, [("h", b"X-Bare\0Q" + n.encode() + b"\0")])
            s.edits = []
        s.close()


@both("tells what it saw of session, envelope and body")
def sees():
    with Running(FILTER) as r:
        s = r.session()
        s.macros("C", client_ptr="ptr.test")
        s.connect("2001:db8::1", "unknown", 77)
        s.helo("me.test")
        s.macros("M", i="QID9", auth_authen="joe")
        s.mail("<a@from.test>", "SIZE=5")
        s.rcpt("<tell@to.test>")
        s.rcpt("<b@to.test>")
        same(s.content(body=b"x" * 70000 + b"\r\n"), "y")
        same(s.reply, "550 5.0.0 generation=1 body=70002 last=10 id=QID9 "
             "client=[2001:db8::1] port=77 helo=me.test auth=joe n=2 "
             "ptr=ptr.test")
        s.mail("<>")
        s.rcpt("<tell@to.test>")
        same(s.content(body=b""), "y")
        assert "body=0" in s.reply
        s.close()


@both("answers each recipient for itself")
def recipients():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        s.helo()
        s.mail()
        same(s.rcpt("<lines@to.test>"), "y")
        same(s.reply, "550-5.7.1 100%% one\r\n550-5.7.1 two\r\n"
             "550 5.7.1 three lines@to.test")
        same(s.rcpt("<accept@to.test>"), "c")
        same(s.rcpt("<drop@to.test>"), "c")
        same(s.rcpt("<close@to.test>"), "y")
        same(s.reply, "421 4.7.0 bye")
        same(s.content(), "c")
        same(s.edits, [("-", b"<drop@to.test>\0")])
        s.mail()
        same(s.rcpt("<drop@to.test>"), "c")
        same(s.content(), "d")
        s.close()


@both("sends edits in the order that every MTA takes them")
def edits():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        s.mail()
        s.rcpt("<edit@to.test>")
        fields = (("Subject", "s"), ("X-A", "1"), ("X-A", "2"))
        same(s.content(fields), "c")
        same([(c, d.rstrip(b"\0")) for c, d in s.edits], [
            ("m", b"\0\0\0\1Subject\0changed"),
            ("m", b"\0\0\0\2X-A"), ("m", b"\0\0\0\1X-A"),
            ("i", b"\0\0\0\1X-Top\0t"), ("h", b"X-New\0a\n b"),
            ("e", b"<>"), ("-", b"<edit@to.test>"), ("+", b"<new@to.test>"),
            ("2", b"<par@to.test>\0NOTIFY=NEVER"), ("b", b"new\r\n"),
            ("q", b"held")])
        s.mail()
        s.rcpt("<empty@to.test>")
        same(s.content(), "c")
        same(s.edits, [("b", b"\r\n")])
        s.close()


@both("does not make an edit that the MTA does not offer")
def not_offered():
    with Running(FILTER) as r:
        s = r.session(actions=0x01)
        same(s.actions, 0x01)
        s.connect()
        s.mail()
        s.rcpt("<edit@to.test>")
        same(s.content((("X-A", "1"), ("X-A", "2"))), "t")
        same(s.edits, [])
        s.close()


@both("tells progress while it works")
def progress():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        s.mail()
        s.rcpt("<sleep6@to.test>")
        same(s.content(), "c")
        assert 1 <= s.progress <= 2, s.progress
        s.close()


@both("refuses what is larger than it keeps")
def oversize():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        s.mail()
        s.rcpt("<b@to.test>")
        same(s.content(body=b"x" * (1 << 20) + b"\r\n"), "y")
        assert s.reply.startswith("451 4.3.4 "), s.reply
        s.close()


@both("reads settings again at SIGHUP, and never stops for it")
def reload():
    with Running(FILTER, "generation = 1\n") as r:
        def tell(s):
            s.mail()
            s.rcpt("<tell@to.test>")
            s.content()
            return s.reply.split()[2]

        old = r.session()
        old.connect()
        same(tell(old), "generation=1")
        write(os.path.basename(r.conf), "generation = 2\n")
        for _ in range(200):
            r.proc.send_signal(signal.SIGHUP)
        assert wait_for(lambda: "read again" in r.text())
        same(tell(old), "generation=1")
        fresh = r.session()
        fresh.connect()
        assert wait_for(lambda: tell(fresh) == "generation=2")
        write(os.path.basename(r.conf), "generation = x\nnone = 1\n")
        r.proc.send_signal(signal.SIGHUP)
        assert wait_for(lambda: "the ones before stay" in r.text())
        assert ":1: generation is a number" in r.text()
        assert ":2: unknown option none" in r.text()
        last = r.session()
        last.connect()
        same(tell(last), "generation=2")
        for s in (old, fresh, last):
            s.close()
        same(r.proc.poll(), None)
        same(r.stop(), 0)


@both("finishes the message in hand before it stops")
def graceful():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        s.mail()
        s.rcpt("<sleep2@to.test>")
        threading.Timer(0.5, r.proc.terminate).start()
        same(s.content(), "c")
        same(r.proc.wait(5), 0)
        assert not os.path.exists(r.path)


@both("begins nothing new while it stops, and ends in order")
def stopping():
    with Running(FILTER) as r:
        busy, idle, old = r.session(), r.session(), r.session(protocol=0x7f)
        for s in (busy, idle, old):
            s.connect()
        got = []

        def work():
            busy.mail()
            busy.rcpt("<sleep3@to.test>")
            got.append(busy.content())

        t = threading.Thread(target=work)
        t.start()
        time.sleep(1)
        r.proc.terminate()
        time.sleep(0.5)
        same(idle.mail(), "")
        same(idle.rcpt("<tell@to.test>"), "y")
        same(idle.reply, "451 4.3.2 the filter is stopping")
        same(old.mail(), "c")  # libmilter answers what it may not leave out
        same(old.rcpt("<tell@to.test>"), "y")
        same(old.reply, "451 4.3.2 the filter is stopping")
        same(r.proc.poll(), None)
        t.join()
        same(got, ["c"])
        same(r.proc.wait(5), 0)
        lines = [x.split("]: ")[1] for x in r.text().splitlines()]
        same(lines[-2:], ["fini", "stopped"])


@both("gets its signals, however soon and close together")
def signals():
    for i in range(30):
        with Running(ACCESS) as r:
            if i % 2:
                r.proc.send_signal(signal.SIGSTOP)
                r.proc.send_signal(signal.SIGHUP)
                r.proc.send_signal(signal.SIGTERM)
                r.proc.send_signal(signal.SIGCONT)
            before = time.monotonic()
            same(r.stop(), 0)
            assert time.monotonic() - before < 4
            assert "stopped" in r.text() and "has ended" not in r.text()


@both("lets a decision about a session end before fini")
def stop_in_helo():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        threading.Timer(0.5, r.proc.terminate).start()
        same(s.helo("sleep2"), "c")
        same(r.proc.wait(5), 0)
        assert "fini" in r.text()


def one_session(r, me, errors):
    """Messages of every kind; each answer must be this session's own."""
    try:
        s = r.session()
        s.connect(f"192.0.2.{me}", f"c{me}.test", 1000 + me)
        s.helo(f"h{me}.test")
        for i in range(12):
            qid = f"Q{me}x{i}"
            s.macros("M", i=qid, auth_authen=f"joe{me}")
            s.mail(f"<m{i}@s{me}.test>")
            if i % 4 == 3:
                s.rcpt("<edit@to.test>")
                same(s.content((("X-A", "1"), ("X-A", "2"))), "c")
                same(len(s.edits), 11)
                continue
            if i % 4 == 2:
                s.rcpt()
                s.abort()
                continue
            same(s.rcpt(f"<lines{me}@to.test>"), "y")
            assert s.reply.endswith(f"three lines{me}@to.test"), s.reply
            s.rcpt("<tell@to.test>")
            same(s.content(body=b"x" * (me * 1000 + i)), "y")
            same(s.reply.split(" ", 3)[3].split(" ", 1)[1],
                 f"last=120 id={qid} client=c{me}.test port={1000 + me} "
                 f"helo=h{me}.test auth=joe{me} n=1 ptr=")
            same(s.reply.split()[3], f"body={me * 1000 + i}")
        s.close()
    except Exception as e:
        errors.append(repr(e))


@both("keeps 40 parallel sessions apart while settings change")
def parallel():
    with Running(FILTER) as r:
        errors = []
        threads = [threading.Thread(target=one_session, args=(r, me, errors))
                   for me in range(1, 41)]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            r.proc.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        same(errors, [])
        same(r.stop(), 0)


@both("serves a second session over one connection (QUIT_NC)")
def quit_nc():
    with Running(FILTER) as r:
        s = r.session()
        s.connect()
        s.mail()
        s.rcpt("<b@to.test>")
        same(s.content(), "c")
        s.packet("K")
        s.connect("192.0.2.8")
        s.mail()
        same(s.rcpt("<tell@to.test>"), "c")
        same(s.content(), "y")
        assert "client=client.test" in s.reply and "n=1" in s.reply
        s.close()


@tap.test("lists all mistakes of settings with file and line, status 78")
def mistakes():
    path = write("bad.conf", "relay-networks = {10.0.0.1/8}\n\n"
                 "access = \"text:/none\"\nrelay-domain = {a.test}\n")
    got = command(ACCESS, "-n", "-c", path)
    same(got.returncode, 78)
    lines = sorted(got.stderr.splitlines())
    same([line.split(": ")[0] for line in lines],
         [f"{path}:1", f"{path}:3", f"{path}:4"])
    same(command(ACCESS, "-p", "unix:" + DIR + "/x", "-c", path).returncode,
         78)
    same(command(ACCESS, "-n", "-c", write("ok", "")).returncode, 0)
    same(command(ACCESS, "-n").returncode, 0)
    same(command(ACCESS).returncode, 64)
    same(command(ACCESS, "-z").returncode, 64)
    same(command(ACCESS, "-p", "unix:/none/x").returncode, 75)
    got = command(ACCESS, "-h")
    same(got.returncode, 0)
    assert "relay-networks = {networks}" in got.stdout


@both("listens with mode 0660, replaces a stale socket, detaches")
def daemon():
    with Running(ACCESS) as r:
        same(os.stat(r.path).st_mode & 0o777, 0o660)
        r.proc.kill()
        r.proc.wait()
        pid = os.path.join(DIR, "pid")
        got = command(ACCESS, "-p", "unix:" + r.path, "-d", "-P", pid, "-e",
                      engine)
        same(got.returncode, 0)
        with open(pid) as f:
            number = int(f.read())
        s = r.session()  # it answers as soon as the parent has ended
        s.close()
        os.kill(number, signal.SIGTERM)
        assert wait_for(lambda: not os.path.exists(f"/proc/{number}"))


@both("leaves a socket alone that another process serves")
def two():
    with Running(ACCESS) as r:
        got = command(ACCESS, "-p", r.path, "-e", engine)
        same(got.returncode, 75)
        assert "Address already in use" in got.stderr, got.stderr
        r.session().close()
        # one that a successor has put in its place is not removed
        os.unlink(r.path)
        import socket
        mine = socket.socket(socket.AF_UNIX)
        mine.bind(r.path)
        same(r.stop(), 0)
        assert os.path.exists(r.path)


@both("takes relative names, and addresses in both spellings")
def names():
    write("rel.conf", "relay-domains = {a.test}\n")
    same(command(ACCESS, "-p", "unix:rel", "-c", "rel.conf", "-d", "-P",
                 "relpid", "-e", engine, cwd=DIR).returncode, 0)
    with open(os.path.join(DIR, "relpid")) as f:
        number = int(f.read())
    Session(os.path.join(DIR, "rel")).close()
    os.kill(number, signal.SIGHUP)  # the settings are found again
    time.sleep(0.2)
    os.kill(number, signal.SIGTERM)
    assert wait_for(lambda: not os.path.exists(f"/proc/{number}"))
    for name in ("rel", "relpid"):
        assert not os.path.exists(os.path.join(DIR, name)), name
    for form in ("inet:{}@127.0.0.1", "inet:127.0.0.1:{}"):
        port = free_port()
        with Running(ACCESS, where=form.format(port)):
            Session(("127.0.0.1", port)).close()
    for wrong in ("unix:", "unix:/" + "x" * 200, "fifo:/tmp/x"):
        same(command(ACCESS, "-p", wrong, "-e", engine).returncode, 75)
    got = command(ACCESS, "-n", "-c", os.path.join(DIR, "none"))
    same(got.returncode, 78)
    assert "none" in got.stderr and "No such file" in got.stderr, got.stderr


@both("survives clients that speak no Milter")
def hostile():
    with Running(FILTER) as r:
        for junk in (b"", b"\0", b"\xff" * 64, b"GET / HTTP/1.0\r\n\r\n",
                     struct.pack(">I", 0), struct.pack(">I", 1) + b"O",
                     struct.pack(">I", 5) + b"Oabcd"):
            s = Session.__new__(Session)
            import socket
            s.sock = socket.socket(socket.AF_UNIX)
            s.sock.connect(r.path)
            s.sock.sendall(junk)
            s.sock.close()
        s = r.session()
        s.connect()
        s.packet("M", b"<no-nul")
        s.sock.close()
        s = r.session()
        s.packet("E")
        s.packet("N")
        s.packet("R", z("<x@y>"))
        s.close()
        s = r.session()
        s.connect()
        s.mail()
        s.rcpt()
        same(s.content(), "c")
        s.close()
        same(r.stop(), 0)


if __name__ == "__main__":
    try:
        tap.run()
    finally:
        shutil.rmtree(DIR, ignore_errors=True)
