# SPDX-License-Identifier: ISC
"""process - sandbox, reload, run-time switches, graceful end"""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from milterclient import children  # noqa: E402
from gateway import INST, Client, Gateway, free_port, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: p\r\n\r\nx\r\n"


def processes():
    return gate.ctl_json("status")["processes"]


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f
                    if ":\t" in line)


CAPS = {"NET_BIND_SERVICE": 10, "SETUID": 7, "SETGID": 6, "KILL": 5}
CORE = ("receiver", "queue", "relay", "lookup", "web")


@tap.test("each process: a filter, no new privileges, its own user")
def _():
    pids = {p["name"].split(".")[0]: p["pid"] for p in processes()}
    pids["supervisor"] = gate.proc.pid
    uids = {}
    for name in (*CORE, "supervisor", "milter"):
        s = status_of(pids[name])
        assert s["Seccomp"] == "2", (name, s["Seccomp"])
        assert s["NoNewPrivs"] == "1", name
        want = 0
        if name == "supervisor" and os.getuid() == 0:
            want = sum(1 << bit for bit in CAPS.values())
        assert int(s["CapEff"], 16) == want, (name, s["CapEff"])
        assert int(s["CapPrm"], 16) == want, (name, s["CapPrm"])
        uids[name] = s["Uid"].split()[0]
    if os.getuid() == 0:
        assert "0" not in uids.values(), uids
        assert len(set(uids.values())) == len(uids), uids


# What docs/sandbox.md says: what a process may still do when it tries.
ALLOWED = {"receiver": {"socket"}, "queue": set(), "relay": {"socket"},
           "lookup": {"socket"}, "web": set()}


@tap.test("the probe: each process is refused what docs/sandbox.md says")
def _():
    found = 0
    for p in gate.ctl_json("probe")["processes"]:
        kind = p["name"].split(".")[0]
        if kind not in ALLOWED:
            continue
        found += 1
        probe = p["probe"]
        assert set(probe) == {"open", "socket", "execve", "ptrace", "kill"}
        for call, got in probe.items():
            if call in ALLOWED[kind]:
                assert got == "ok", (p["name"], call, got)
            else:
                assert got in ("EPERM", "EACCES"), (p["name"], call, got)
    assert found == 5, found


@tap.test("a reload keeps the session that runs")
def _():
    c = Client(gate)
    c.say("EHLO x.test")
    gate.ctl("reload")
    time.sleep(0.5)
    n = len(sink.messages)
    assert c.send(MAIL, ehlo=False).startswith("250 ")
    assert len(sink.wait(n + 1)) == n + 1


@tap.test("paused delivery keeps mail until it is resumed")
def _():
    assert gate.ctl("pause", "delivery").returncode == 0
    n = len(sink.messages)
    assert Client(gate).send(MAIL).startswith("250 ")
    time.sleep(1)
    assert len(sink.messages) == n
    assert len(gate.ctl_json("queue", "list")) == 1
    assert gate.ctl("resume", "delivery").returncode == 0
    assert len(sink.wait(n + 1)) == n + 1


for kind in (*CORE, "milter.access"):
    @tap.test(f"a hung {kind} is replaced in time, and mail flows on")
    def _(kind=kind):
        old = gate.pid(kind)
        os.kill(old, signal.SIGSTOP)
        # hang-time is 3 s; a look at it once a second
        assert wait_for(lambda: any(
            p["name"].startswith(kind) and p["pid"] not in (0, old) and
            p["state"] == "running" for p in processes()), 8)
        n = len(sink.messages)
        assert wait_for(
            lambda: Client(gate).send(MAIL).startswith("250 "), 20, 0.2)
        assert len(sink.wait(n + 1)) > n


@tap.test("explain tells who decided")
def _():
    got = Client(gate).send(MAIL)
    ident = got.split()[2]
    out = wait_for(lambda: gate.ctl("explain", ident).stdout)
    assert ident in out and "access" in out, (got, out)


@tap.test("what dies is started again, each time after a longer pause")
def _():
    def receiver():
        return next(p for p in processes() if p["name"] == "receiver.0")
    pauses = []
    for _ in range(4):
        pid = gate.pid("receiver.0")
        os.kill(pid, signal.SIGKILL)
        mark = f"name=receiver.0 pid={pid} signal=9 again_ms="
        assert wait_for(lambda: mark in gate.log_text())
        pauses.append(int(gate.log_text().split(mark)[1].split()[0]))
    assert pauses == sorted(set(pauses)) and pauses[-1] >= 800, pauses
    assert wait_for(lambda: receiver()["state"] == "running")
    assert receiver()["restarts"] >= 4
    assert wait_for(gate.answers)


@tap.test("all processes are gone 2 s after the supervisor was killed")
def _():
    pids = children(gate.proc.pid)
    assert len(pids) >= 5, pids
    gate.kill()
    gone = wait_for(lambda: not [p for p in pids if os.path.exists(
        f"/proc/{p}") and status_of(p)["State"][0] != "Z"], 2)
    assert gone
    gate.start()


@tap.test("SIGTERM during a transaction: it is finished, then all ends")
def _():
    c = Client(gate)
    idle = Client(gate)
    for line in ("EHLO x.test", "MAIL FROM:<a@from.test>",
                 "RCPT TO:<b@to.test>"):
        assert c.say(line).startswith("250")
    assert c.say("DATA").startswith("354")
    n = len(sink.messages)
    gate.proc.send_signal(signal.SIGTERM)
    assert idle.reply().startswith("421")
    c.sock.sendall(MAIL + b".\r\n")
    assert c.reply().startswith("250 ")
    assert gate.proc.wait(20) == 0
    gate.stop()
    gate.start()
    assert len(sink.wait(n + 1)) == n + 1


@tap.test("SIGTERM ends it with status 0")
def _():
    assert gate.stop() == 0
    gate.start()


@tap.test("every mistake is reported with file and line, nothing is opened")
def _():
    path = os.path.join(gate.dir, "bad.conf")
    with open(path, "w") as f:
        f.write('postmaster = "p@x"\nlimits { recipients = many }\n'
                'policy "p" { authorise = "nobody" }\nspol = "/x"\n')
    p = subprocess.run([INST + "/sbin/milldam", "-n", "-f", path],
                       capture_output=True, text=True, timeout=10)
    assert p.returncode == 78, p
    text = p.stdout + p.stderr
    for line in (2, 3, 4):
        assert f"bad.conf:{line}:" in text, text


@tap.test("-n: every mistake of every file in one run, and nothing is opened")
def _():
    folder = os.path.join(gate.dir, "many")
    os.makedirs(folder + "/local.d")
    with open(folder + "/main.conf", "w") as f:
        f.write('postmaster = "p@x"\ninclude "one.policy"\n'
                f'spool = "{folder}/spool"\nrun-directory = "{folder}/run"\n'
                'listener "l" { address = "nowhere" policy = "p" }\n'
                'hang-time = soon\ninclude "local.d/*.conf"\n')
    with open(folder + "/one.policy", "w") as f:
        f.write('milter "m" { on-failure = shrug }\n\n'
                'policy "p" { chain = {"ghost"} }\nbogus "x" { }\n')
    with open(folder + "/local.d/a.conf", "w") as f:
        f.write('limits { recipients = -1 }\n')
    with open(folder + "/local.d/b.conf", "w") as f:
        f.write('\npolicy "p" { rule "r" { client = {"10.0.0.0/99"} } }\n')
    trace = folder + "/trace"
    p = subprocess.run(
        ["strace", "-f", "-o", trace, "-e",
         "trace=open,openat,mkdir,socket,bind,clone,fork,unlink",
         INST + "/sbin/milldam", "-n", "-f", folder + "/main.conf"],
        capture_output=True, text=True, timeout=20,
        env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    assert p.returncode == 78, p
    for place in ("main.conf:5:", "main.conf:6:", "one.policy:1:",
                  "one.policy:3:", "one.policy:4:", "a.conf:1:",
                  "b.conf:2:"):
        assert place in p.stderr, (place, p.stderr)
    with open(trace) as f:
        for line in f:
            assert "open" in line or "+++" in line, line
            assert "O_WRONLY" not in line and "O_RDWR" not in line or \
                "/proc/" in line, line
    assert not os.path.exists(folder + "/spool")


@tap.test("-n: mistakes in the settings of milters as well")
def _():
    folder = os.path.join(gate.dir, "filters")
    os.makedirs(folder)
    with open(folder + "/main.conf", "w") as f:
        f.write('postmaster = "p@x.test"\n'
                'milter "a" { run = "milldam-access" settings = "a.conf" }\n'
                'milter "r" { run = "milldam-rewrite" settings = "r.conf" }\n'
                'milter "m" { run = "milldam-missing" settings = "r.conf" }\n'
                'policy "p" { authorise = "a" chain = {"a", "r", "m"} }\n'
                'listener "l" { address = "127.0.0.1:2525" policy = "p" }\n')
    with open(folder + "/a.conf", "w") as f:
        f.write('\nrelay-networks = {"10.0.0.0/99"}\nfrob = 1\n')
    with open(folder + "/r.conf", "w") as f:
        f.write('header "x" { name = "A" action = "frob" }\n')
    words = [INST + "/sbin/milldam", "-n", "-f", folder + "/main.conf"]
    p = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert p.returncode == 78 and p.stdout == "", p
    for place in ("a.conf:2:", "a.conf:3:", "r.conf:1:",
                  "milldam-missing: No such file"):
        assert place in p.stderr, (place, p.stderr)
    with open(folder + "/a.conf", "w") as f:
        f.write('relay-networks = {"10.0.0.0/8"}\n')
    with open(folder + "/r.conf", "w") as f:
        f.write('header "x" { name = "A" action = "delete" }\n')
    with open(folder + "/main.conf") as f:
        text = f.read().replace("milldam-missing", "milldam-access").replace(
            '"m" { run = "milldam-access" settings = "r.conf"',
            '"m" { run = "milldam-access" settings = "a.conf"')
    with open(folder + "/main.conf", "w") as f:
        f.write(text)
    p = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert p.returncode == 0 and p.stderr == "", p
    assert "no mistakes" in p.stdout


def as_nobody(tree):
    """Every file of a gateway's folder belongs to nobody."""
    os.chown(tree, 65534, 65534)
    for folder, names, files in os.walk(tree):
        for name in names + files:
            os.chown(os.path.join(folder, name), 65534, 65534)


@tap.test("an ordinary user on a high port: mail is relayed, status shown")
def _():
    other = Gateway(sink.port, extra="hang-time = 3s\n")
    if os.getuid() == 0:
        with open(other.conf) as f:
            text = f.read().replace("uid-base = 64100\n", "")
        with open(other.conf, "w") as f:
            f.write(text)
        as_nobody(other.dir)
        other.prefix = ["setpriv", "--reuid=65534", "--regid=65534",
                        "--clear-groups"]
    with other:
        n = len(sink.messages)
        assert Client(other).send(MAIL).startswith("250 ")
        assert len(sink.wait(n + 1)) == n + 1
        seen = {p["name"]: p["pid"] for p in
                other.ctl_json("status")["processes"]}
        assert len(seen) == 5, seen
        for name, pid in seen.items():
            s = status_of(pid)
            assert s["Uid"].split()[0] != "0" and s["Seccomp"] == "2", name
            assert int(s["CapPrm"], 16) == 0, name
        time.sleep(2)  # who never answered has longer: it may be loading
        os.kill(other.pid("milter.access"), signal.SIGSTOP)
        os.kill(other.pid("queue.0"), signal.SIGKILL)
        assert wait_for(lambda: Client(other).send(MAIL).startswith("250 "),
                        30, 0.5)
        assert other.stop() == 0


gate = Gateway(sink.port, extra="hang-time = 3s\nweb { address = "
               f'{{"127.0.0.1:{free_port()}"}} }}\n')
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
