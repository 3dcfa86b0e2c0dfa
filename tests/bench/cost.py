#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""cost - what filters cost Milldam and other MTAs, as docs/performance.md has it

    cost.py --bench DIR --work DIR [--reps 2] [--seconds 1] [--out FILE]

The chain has none, 1, 4 or 8 filters on libmilter that skip nothing (noop.c),
or one of libmilldam that looks at the header (look.c); the MTAs take turns.
See table.py for DIR of --bench and --work, and for what else is measured.
Needs root, and no other work on the machine.
"""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import table  # noqa: E402

# name in the tables, program, how many
CHAINS = (("0", None, 0), ("1", "noop", 1), ("4", "noop", 4),
          ("8", "noop", 8), ("1 libmilldam", "look", 1))
LOADS = (("10K", 1, False), ("10K", 10, False), ("10K", 50, False),
         ("1M", 10, False))
POINTS = tuple(("relay", name, LOADS) for name, _, _ in CHAINS)


def build(work):
    """The filters, once Milldam is installed below work."""
    usr = f"{work}/milldam/root/usr"
    for name, flags in (
            ("noop", ["-lmilter", "-lpthread"]),
            ("look", [f"-I{usr}/include", f"-L{usr}/lib",
                      f"-Wl,-rpath,{usr}/lib", "-lmilldam"])):
        subprocess.run(["cc", "-O2", "-o", f"{work}/{name}",
                        f"{HERE}/{name}.c", *flags], check=True)


class Filters:
    """Filters of one kind, in a control group."""

    def __init__(self, bench, work, kind, n):
        self.group = bench.Group("milters")
        self.procs, self.specs = [], []
        os.makedirs(bench.RUN, exist_ok=True)
        for i in range(n):
            path = f"{bench.RUN}/m{i}.sock"
            if os.path.exists(path):
                os.unlink(path)
            args = ([f"unix:{path}"] if kind == "noop" else
                    ["-f", "-e", "events", "-p", f"unix:{path}"])
            self.procs.append(subprocess.Popen(
                [f"{work}/{kind}", *args], preexec_fn=self.group.join,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            self.specs.append(f"unix:{path}")
        end = time.monotonic() + 10
        while not all(os.path.exists(s[5:]) for s in self.specs):
            if time.monotonic() > end:
                raise RuntimeError(f"{kind} did not start")
            time.sleep(0.02)
        for s in self.specs:  # the MTA has another user
            os.chmod(s[5:], 0o666)

    def stop(self):
        for p in self.procs:
            p.kill()
            p.wait()


class Cost(table.Rates):
    POINTS = POINTS

    def begin(self, peer, relay, name):
        kind, n = next((k, n) for c, k, n in CHAINS if c == name)
        m = Filters(self.bench, self.o.work, kind, n)
        os.environ["MILTER_LIBRARY"] = ("milldam" if kind == "look" else
                                        "libmilter")
        for what in ("stop", "wipe"):
            self.bench.script(peer, what)
        try:
            self.bench.script(peer, "start", MODE="relay" if relay else "hold",
                              MILTERS=" ".join(m.specs))
            self.bench.wait_port(self.bench.PORT)
        except Exception:
            m.stop()
            raise
        return m, self.bench.Group(table.name_of(peer))

    def calls(self, peer, name, count=200):
        """System calls per message of the MTA's own processes."""
        m, g = self.begin(peer, True, name)
        sink = self.b.sink = self.bench.Sink(self.b.load)
        out = f"{self.o.work}/strace.{table.name_of(peer)}"
        try:
            self.b.source(10240, 10, 50, False)
            trace = subprocess.Popen(
                ["strace", "-f", "-c", "-o", out,
                 *(a for p in g.pids() for a in ("-p", str(p)))],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1)
            before = sink.count()
            self.b.source(10240, 10, count, False)
            end = time.monotonic() + 30
            while (sink.count() - before < count and
                   time.monotonic() < end):
                time.sleep(0.05)
            trace.send_signal(2)
            trace.wait()
        finally:
            self.b.sink = None
            sink.stop()
            self.bench.script(peer, "stop")
            m.stop()
        with open(out) as f:
            rows = [line.split() for line in f]
        return sum(int(r[3]) for r in rows if len(r) >= 5 and
                   r[3].isdigit() and r[-1] != "total") / count


def cell(rows, peer, name, load, column):
    """Median of a cell, or None."""
    size, sessions, reuse = load
    got = [r for r in rows if (
        r["peer"], r["milters"], r["size"], r["sessions"],
        r["reuse"]) == (peer, name, size, sessions, int(reuse)) and
        not r["note"]]
    return table.median(got, column) if got else None


def add_sums(rows):
    for r in rows:
        r["both_cpu_per_1000"] = (float(r["cpu_per_1000"]) +
                                  float(r["milter_cpu_per_1000"]))


def print_extra(rows, peers):
    """What one filter and message costs: the difference to none, divided."""
    lines = []
    for size, sessions, reuse in LOADS:
        load = (size, sessions, reuse)
        for name, kind, n in CHAINS[1:]:
            line = [name, size, sessions]
            for column, digits in (("both_cpu_per_1000", 3),
                                   ("ctxt_per_msg", 1)):
                for p in map(table.name_of, peers):
                    a = cell(rows, p, name, load, column)
                    b = cell(rows, p, "0", load, column)
                    line.append("-" if a is None or b is None else
                                "%.*f" % (digits, (a - b) / n))
            lines.append(line)
    names = [table.name_of(p) for p in peers]
    print("### What one filter adds to a message: CPU seconds per 1000 of "
          "MTA and filter, context switches\n")
    table.table(["filters", "size", "sessions",
                 *(f"CPU, {n}" for n in names),
                 *(f"switches, {n}" for n in names)], lines)


def print_calls(cost, peers):
    lines = []
    for name, _, _ in CHAINS:
        got = []
        for p in peers:
            print(f"calls {name} {table.name_of(p)}", file=sys.stderr)
            got.append(cost.calls(p, name))
        lines.append([name, *("%.0f" % g for g in got),
                      "%.2f" % (got[0] / got[1]) if len(got) > 1 else "-"])
    names = [table.name_of(p) for p in peers]
    print("### System calls per message: relay, 10 KB, 10 sessions, without "
          "the filters' own\n")
    table.table(["filters", *names,
                 f"{names[0]} / {names[1]}" if len(names) > 1 else ""], lines)


def main():
    o = table.arguments(__doc__, ("all", "rates", "calls"))
    begin = time.time()
    bench, peers = table.prepare(o)
    build(o.work)
    table.machine(bench, peers)
    try:
        cost = Cost(bench, o)
        if o.only != "calls":
            rows = cost.run(peers)
            add_sums(rows)
            table.print_rates(rows, peers, POINTS, (
                *table.RATES[:2],
                ("both_cpu_per_1000", "CPU seconds per 1000 messages of MTA "
                 "and filters together", 2), table.RATES[3]))
            print_extra(rows, peers)
        if o.only != "rates":
            print_calls(cost, peers)
    finally:
        for p in peers:
            bench.script(p, "stop")
    print("Whole run: %.0f minutes." % ((time.time() - begin) / 60))


if __name__ == "__main__":
    main()
