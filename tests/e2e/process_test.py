# SPDX-License-Identifier: ISC
"""process - sandbox, reload, run-time switches, graceful end"""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import INST, Client, Gateway, Tap, wait_for  # noqa: E402
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
CORE = ("receiver", "queue", "relay", "lookup")


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
           "lookup": {"socket"}}


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
    assert found == 4, found


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


for kind in CORE:
    @tap.test(f"a hung {kind} is replaced, and mail flows on")
    def _(kind=kind):
        old = next(p["pid"] for p in processes()
                   if p["name"].startswith(kind))
        os.kill(old, signal.SIGSTOP)
        assert wait_for(lambda: any(
            p["name"].startswith(kind) and p["pid"] not in (0, old) and
            p["state"] == "running" for p in processes()), 20)
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


@tap.test("all children are gone 2 s after the supervisor was killed")
def _():
    pids = [p["pid"] for p in processes() if p.get("pid")]
    gate.kill()
    gone = wait_for(lambda: not [p for p in pids if os.path.exists(
        f"/proc/{p}") and status_of(p)["State"][0] != "Z"], 2)
    assert gone
    gate.start()


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


gate = Gateway(sink.port, extra="hang-time = 3s\n")
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
