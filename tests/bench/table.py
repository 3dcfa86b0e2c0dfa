#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""table - Milldam beside other MTAs, as the tables of docs/performance.md

    table.py --bench DIR --work DIR [--reps 3] [--out FILE] [PEER...]

DIR of --bench holds bench.py, lib.sh and peers/; see docs/performance.md for
what they do.  --work is where packages, builds and spools lie, on the disk to
be measured.  Needs root.  The peers take turns within each point, so that a
change of the machine's speed meets all of them.
"""
import argparse
import csv
import io
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OURS = os.path.join(HERE, "milldam.sh")

# size, sessions, whether smtp-source keeps its connections
LOADS = (("10K", 1, False), ("10K", 10, False), ("10K", 50, False))
EXTRA = (("10K", 10, True), ("1M", 10, False))
# mode, no-op filters, loads
POINTS = (("relay", 0, LOADS + EXTRA), ("relay", 4, LOADS),
          ("accept", 0, LOADS + (("1M", 10, False),)), ("accept", 4, LOADS))
KEEP = ("msg_s", "cpu_per_1000", "milter_cpu_per_1000", "ctxt_per_msg",
        "load_cpu_per_1000", "foreign_cpu")
COLUMNS = ("peer", "mode", "milters", "size", "sessions", "reuse", "rep", "n",
           *KEEP, "note")


# column, title, digits
RATES = (("msg_s", "Messages per second", 0),
         ("cpu_per_1000", "CPU seconds per 1000 messages, all processes of "
          "the MTA (with Milldam's authoriser)", 2),
         ("milter_cpu_per_1000", "CPU seconds per 1000 messages of the four "
          "filters together", 2),
         ("ctxt_per_msg", "Context switches per message, whole machine (with "
          "load, sink and filters)", 0))


def arguments(doc, only):
    p = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("peers", nargs="*", default=["milldam", "postfix",
                                                "sendmail"])
    p.add_argument("--bench", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--max-count", type=int, default=4000)
    p.add_argument("--drain", type=float, default=30)
    p.add_argument("--quiet-wait", type=float, default=2)
    p.add_argument("--out", help="a row a run, as TSV")
    p.add_argument("--installed", action="store_true",
                   help="the MTAs lie below --work from an earlier run")
    p.add_argument("--only", choices=only, default="all")
    return p.parse_args()


def name_of(peer):
    return os.path.basename(peer).removesuffix(".sh")


class Rates:
    """Every point, the peers in turns."""

    POINTS = POINTS

    def __init__(self, bench, o):
        self.bench, self.o = bench, o
        self.b = object.__new__(bench.Bench)
        self.b.o, self.b.load, self.b.sink = o, bench.Group("load"), None
        self.counts, self.rows = {}, []
        self.out = None
        if o.out:
            self.out = csv.DictWriter(open(o.out, "w", buffering=1), COLUMNS,
                                      delimiter="\t", extrasaction="ignore")
            self.out.writeheader()

    def one(self, peer, mode, n_milters, load, g, mg, rep):
        size, sessions, reuse = load
        key = (peer, mode, n_milters, load)
        args = (peer, g, mg, self.bench.sizearg(size), sessions)
        if key not in self.counts:
            most = 100 if size == "1M" else self.o.max_count
            got = self.b.once(*args, max(100, sessions), reuse,
                              mode == "relay")
            self.counts[key] = int(min(max(
                got["msg_s"] * self.o.seconds, 100, 2 * sessions), most))
        self.bench.quiet(self.o.quiet_wait, 0.15)
        row = self.b.once(*args, self.counts[key], reuse, mode == "relay")
        row.update(peer=name_of(peer), mode=mode, milters=n_milters,
                   size=size, sessions=sessions, reuse=int(reuse), rep=rep,
                   n=self.counts[key])
        self.rows.append(row)
        if self.out:
            self.out.writerow(row)

    def begin(self, peer, relay, n_milters):
        """Start filters and the MTA."""
        return self.b.with_peer(peer, relay, "noop", n_milters)

    def point(self, peer, mode, n_milters, loads, rep):
        m, g = self.begin(peer, mode == "relay", n_milters)
        mg = m.group if m.procs else None
        try:
            if mode == "relay":
                self.b.sink = self.bench.Sink(self.b.load)
            # its processes are there and its files open
            self.b.once(peer, g, mg, 10240, 10, 100, False, mode == "relay")
            for load in loads:
                self.one(peer, mode, n_milters, load, g, mg, rep)
        finally:
            if self.b.sink is not None:
                self.b.sink.stop()
                self.b.sink = None
            self.bench.script(peer, "stop")
            m.stop()

    def run(self, peers):
        for rep in range(self.o.reps):
            for mode, n_milters, loads in self.POINTS:
                for peer in peers:
                    print(f"{rep} {mode} {n_milters} {name_of(peer)}",
                          file=sys.stderr)
                    self.point(peer, mode, n_milters, loads, rep)
        return self.rows


def span(rows, column, digits):
    v = [float(r[column]) for r in rows]
    return "%.*f (%.*f-%.*f)" % (digits, statistics.median(v), digits, min(v),
                                 digits, max(v))


def median(rows, column):
    return statistics.median(float(r[column]) for r in rows)


def table(head, lines):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(str(c) for c in line) + " |")
    print()


def print_rates(rows, peers, points, columns):
    names = [name_of(p) for p in peers]
    for column, title, digits in columns:
        lines = []
        for mode, n_milters, loads in points:
            if column == "milter_cpu_per_1000" and n_milters == 0:
                continue
            for size, sessions, reuse in loads:
                cells = {}
                for r in rows:
                    if (r["mode"], r["milters"], r["size"], r["sessions"],
                            r["reuse"]) == (mode, n_milters, size, sessions,
                                            int(reuse)) and not r["note"]:
                        cells.setdefault(r["peer"], []).append(r)
                line = [mode, n_milters, size, str(sessions) +
                        (" kept open" if reuse else "")]
                line += [span(cells[n], column, digits) if n in cells else "-"
                         for n in names]
                if len(names) > 1 and names[0] in cells and names[1] in cells:
                    of = median(cells[names[1]], column)
                    line.append("%.2f" % (median(cells[names[0]], column) /
                                          of) if of else "-")
                else:
                    line.append("-")
                lines.append(line)
        print(f"### {title}: median (min-max)\n")
        table(["mode", "filters", "size", "sessions", *names,
               f"{names[0]} / {names[1]}" if len(names) > 1 else ""], lines)
    bad = [r for r in rows if r["note"]]
    print("Most CPUs used by anything else during a run: %.2f; runs left out: "
          "%d of %d.\n" % (max(float(r["foreign_cpu"]) for r in rows),
                           len(bad), len(rows)))
    for r in bad:
        print("-", r["peer"], r["mode"], r["milters"], r["size"],
              r["sessions"], r["note"])


def print_calls(o, peers, env):
    lines = []
    for n in (0, 4):
        r = subprocess.run(
            [sys.executable, f"{o.bench}/syscalls.py", "--milters", str(n),
             *peers], env=env, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, timeout=600)
        at = r.stdout.find("peer\tmode")
        for row in csv.DictReader(io.StringIO(r.stdout[max(at, 0):]),
                                  delimiter="\t"):
            if not row.get("total"):
                continue
            lines.append([name_of(row["peer"]), n, *(row[k] for k in (
                "total", "fsync", "fdatasync", "fork+clone", "open+creat",
                "read+recv", "write+send", "poll+epoll+select"))])
    print("### System calls per message: relay, 10 KB, 10 sessions, without "
          "the filters' own\n")
    table(["peer", "filters", "all", "fsync", "fdatasync", "fork, clone",
           "open", "read", "write", "poll"], lines)


def print_memory(bench, o, peers):
    lines = []
    for peer in peers:
        b = object.__new__(bench.Bench)
        b.o, b.load, b.sink = o, bench.Group("load"), None
        b.out = io.StringIO()
        b.rss(peer)
        notes = [line.split("\t")[bench.COLS.index("note")]
                 for line in b.out.getvalue().splitlines()]
        got = [{k: float(v) for k, v in re.findall(
            r"(processes|rss_MiB|pss_MiB|private_dirty_MiB)=([0-9.]+)", n)}
            for n in notes]
        if len(got) != 3:
            continue
        lines.append([name_of(peer), *("%.1f" % g["pss_MiB"] for g in got),
                      "%.0f" % got[2]["rss_MiB"],
                      "%.0f" % got[2]["processes"],
                      "%.1f" % ((got[2]["pss_MiB"] - got[1]["pss_MiB"]) *
                                1.024)])
    print("### Memory in MiB, shared pages divided among those that share "
          "them\n")
    table(["peer", "idle", "after 200 messages", "1000 open sessions",
           "RSS then", "processes then", "KiB per session"], lines)


def machine(bench, peers):
    cpu = next((line.split(":", 1)[1].strip() for line in
                open("/proc/cpuinfo") if line.startswith("model name")), "?")
    git = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True).stdout.strip()
    print(f"{os.cpu_count()} CPUs ({cpu}), Linux {platform.release()}; " +
          ", ".join(f"{name_of(p)} {bench.script(p, 'version')}"
                    for p in peers) + (f" at {git}" if git else "") + ".\n")


def prepare(o):
    """The bench, and the scripts of the peers, which are installed."""
    o.bench, o.work = os.path.abspath(o.bench), os.path.abspath(o.work)
    os.environ.update(BENCH_DIR=o.work, BENCH_LIB=f"{o.bench}/lib.sh",
                      PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True
    sys.path.insert(0, o.bench)
    import bench

    peers = [OURS if p == "milldam" else p for p in o.peers]
    # ended in the middle, the MTAs are stopped all the same
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for p in [] if o.installed else peers:
        subprocess.run([bench.peer_script(p), "install"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return bench, peers


def main():
    o = arguments(__doc__, ("all", "rates", "calls", "memory"))
    begin = time.time()
    bench, peers = prepare(o)
    machine(bench, peers)
    try:
        if o.only in ("all", "rates"):
            print_rates(Rates(bench, o).run(peers), peers, POINTS, RATES)
        if o.only in ("all", "calls"):
            print_calls(o, peers, os.environ)
        if o.only in ("all", "memory"):
            print_memory(bench, o, peers)
    finally:
        for p in peers:
            bench.script(p, "stop")
    print("Whole run: %.0f minutes." % ((time.time() - begin) / 60))


if __name__ == "__main__":
    main()
