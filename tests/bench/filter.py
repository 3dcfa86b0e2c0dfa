#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""filter - what a filter costs, with each back-end of libmilldam

    MILLDAM_INST=DIR filter.py [--messages 3000] [--sessions 10] [--reps 3]

Runs the gateway with the authoriser alone, and with a filter beside it that
reads the header (look.c), sends it messages of 10 KB with smtp-source, and
prints CPU time and context switches of the processes from /proc, by 1000
messages.  "both sides" is what the gateway and the filter use more than without
the filter.  The back-ends take turns.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
from gateway import INST, Gateway, free_port, wait_for  # noqa: E402

HZ = os.sysconf("SC_CLK_TCK")


def build(where):
    env = dict(os.environ, PKG_CONFIG_PATH=f"{INST}/lib/pkgconfig")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "milldam"], env=env, check=True,
        capture_output=True, text=True).stdout.split()
    subprocess.run(["cc", "-O2", "-o", where, os.path.join(HERE, "look.c"),
                    *flags, f"-Wl,-rpath,{INST}/lib"], check=True)


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def family(pid):
    """The process and all below it."""
    pids = [pid]
    for p in pids:
        for t in os.listdir(f"/proc/{p}/task"):
            pids += [int(c) for c in
                     read(f"/proc/{p}/task/{t}/children").split()]
    return pids


def usage(pids):
    """Seconds of CPU and context switches of each program's processes."""
    used = {}
    for pid in pids:
        stat = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        title = read(f"/proc/{pid}/comm").strip()
        # threads that have ended are in the first only: libmilter ends some
        cpu = (int(stat[11]) + int(stat[12])) / HZ
        switches = 0
        for t in os.listdir(f"/proc/{pid}/task"):
            base = f"/proc/{pid}/task/{t}"
            switches += sum(int(n) for n in re.findall(
                r"ctxt_switches:\s+(\d+)", read(base + "/status")))
        key = name if name != "milldam" else title
        have = used.get(key, (0, 0))
        used[key] = (have[0] + cpu, have[1] + switches)
    return used


def load(port, messages, sessions):
    subprocess.run(
        ["smtp-source", "-4", "-s", str(sessions), "-m", str(messages), "-l",
         "10240", "-f", "a@bench.test", "-t", "b@example.com",
         f"127.0.0.1:{port}"], check=True, stdout=subprocess.DEVNULL)


def one(o, look, engine, slow=False):
    """Figures of a run: the filter look beside access, or access alone."""
    library = "milldam" if engine == "events" else engine
    milters = (f'milter "look" {{ run = "{o.look}" library = "{library}" '
               f'args = {{ "-e", "{engine}" }} }}' if look else "")
    chain = ("access", "look") if look else ("access",)
    env = {"LOOK_SLOW": "1"} if slow else None
    g = Gateway(free_port(), chain=chain, milters=milters, env=env)
    text = read(g.conf).replace(
        'settings = "access.conf"', 'settings = "access.conf" '
        f'library = "{library}" args = {{ "-e", "{engine}" }}')
    text += "limits { sessions = 1000 sessions-per-client = 1000 }\n"
    with open(g.conf, "w") as f:
        f.write(text)
    with g:
        g.ctl("pause", "delivery")
        load(g.port, 200, o.sessions)
        pids = family(g.proc.pid)
        before = usage(pids)
        load(g.port, o.messages, o.sessions)
        time.sleep(0.3)
        after = usage(pids)
    return {k: (1000 * (after[k][0] - before[k][0]) / o.messages,
                (after[k][1] - before[k][1]) / o.messages) for k in after}


def both(with_filter, without):
    """CPU and switches more than without the filter."""
    return tuple(sum(v[i] for v in with_filter.values()) -
                 sum(v[i] for v in without.values()) for i in (0, 1))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--messages", type=int, default=3000)
    p.add_argument("--sessions", type=int, default=10)
    p.add_argument("--reps", type=int, default=3)
    o = p.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(prefix="milldam-look.", dir="/tmp") as d:
        os.chmod(d, 0o755)
        o.look = os.path.join(d, "look")
        build(o.look)
        for _ in range(o.reps):
            for engine in ("libmilter", "events"):
                alone = one(o, False, engine)
                rows.setdefault((engine, "access"), []).append(
                    alone["milldam-access"])
                for slow in (False, True):  # with and without quick
                    if slow and engine == "libmilter":
                        continue
                    got = one(o, True, engine, slow)
                    name = "look, in workers" if slow else "look"
                    rows.setdefault((engine, name), []).append(got["look"])
                    rows.setdefault(
                        (engine, name + ", both sides"), []).append(
                        both(got, alone))
    print("| back-end | what | CPU s / 1000 | switches / message |")
    print("|---|---|---|---|")
    for (engine, name), got in rows.items():
        print("| %s | %s | %s | %s |" % (engine, name, *(
            "%.3f (%.3f-%.3f)" % (statistics.median(v), min(v), max(v))
            for v in ([g[0] for g in got], [g[1] for g in got]))))


if __name__ == "__main__":
    main()
