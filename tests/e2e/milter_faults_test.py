# SPDX-License-Identifier: ISC
# slow
"""milter_faults - one milter for each thing that can be wrong with one

The cases are data: tests/fault/milter_cases.py.  One gateway serves them all
side by side, each with a listener and a milter of its own.  Of each is asked:
what the client hears and how long that takes, what arrives at the next hop, is
held or dropped, what is logged, counted and recorded; that every connection to
the milter ends; that a second session with the same milter, begun before and
ended after, and a third that begins then, have their messages changed as they
should; that sessions without that milter go on.  At the end no process has ended and, after all cases were
repeated, the receiver holds as many descriptors and as much memory as before.

Arguments: names of cases, to run only these.
"""
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

TESTS = os.path.join(os.path.dirname(__file__), "..")
sys.path[:0] = [os.path.join(TESTS, "lib"), os.path.join(TESTS, "fault")]
from badmilter import CONT, BadMilter, packet  # noqa: E402
from gateway import (Client, Gateway, Tap, free_port, stuff,  # noqa: E402
                     wait_for, without_trace)
from milter_cases import LONG, SHORT, cases  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
AT_ONCE = 24
SANITIZED = "MILLDAM_SANITIZE" in os.environ
# of the cases that wait for no limit, for leaks, which sanitizers find anyway
ROUNDS = 2 if SANITIZED else 6
SLACK = 8        # seconds that a loaded machine may add to a limit
BODY_MAX = 32 << 20
GROWTH = 24 << 10  # KiB that the allocator may keep of 24 sessions at once
GOOD = packet(b"h", b"X-Good\0yes\0") + CONT


class Wrong(Exception):
    pass


def want(true, *what):
    if not true:
        raise Wrong(*what)


class Log:
    """What the gateway logged, by milter."""

    def __init__(self):
        self.lines = {}
        self.file = None
        self.lock = threading.Lock()
        self.rest = ""

    def of(self, name):
        with self.lock:
            if self.file is None:
                self.file = open(os.path.join(gate.dir, "log"),
                                 errors="replace")
            *lines, self.rest = (self.rest + self.file.read()).split("\n")
            for line in lines:
                by = re.search(r"milter=(\S+?)[:,]? ", line)
                if by:
                    self.lines.setdefault(by.group(1), []).append(line)
            return list(self.lines.get(name, []))


class Session:
    """One client that does what the case says; .sent: (mark, sender, content)
    of what was answered 250, .ids of transactions that began."""

    def __init__(self, run, number):
        self.run = run
        self.case = run.case
        self.name = f"{run.name}-{run.round}-{number}"
        self.sent = []
        self.refused = []
        self.longest = 0
        self.n = 0
        self.client = None

    def start(self):
        self.lines = len(log.of(self.run.name))
        self.client = Client(gate, host=run_host(self.run),
                             port=gate_port)
        self.run.clients.append(self.client)
        self.client.sock.settimeout(self.run.limit)
        return self.client.greeting

    def ehlo(self):
        self.client.say("EHLO client.test")

    def mail(self):
        self.n += 1
        self.rcpts = 0
        self.mark = f"{self.name}-{self.n}"
        return self.client.say(f"MAIL FROM:<{self.mark}@from.test>")

    def content(self):
        return (b"From: <a@from.test>\r\nSubject: one\r\nX-Dup: 1\r\n"
                b"X-Dup: 2\r\nX-Case: %s\r\n\r\n" % self.mark.encode() +
                self.case.body)

    def dot(self):
        content = self.content()
        self.client.sock.sendall(stuff(content) + b".\r\n")
        got = self.client.reply()
        if got.startswith("250"):
            self.sent.append((self.mark, f"{self.mark}@from.test", content))
        else:
            self.refused.append(self.mark)
        return got

    def word(self, word, rest):
        """One command; its reply."""
        c = self.client
        if word == "again":
            c.say("QUIT")
            c.close()
            return self.connect()
        if word == "M":
            return self.mail()
        if word == "R":
            self.rcpts += 1
            return c.say(f"RCPT TO:<r{self.rcpts}@to.test>")
        if word == "D":
            return c.say("DATA")
        if word == ".":
            return self.dot()
        if word == "drop":
            c.sock.sendall(b"RCPT TO:<r1@to.test>\r\n")
            time.sleep(0.2)
            c.close()
            return self.connect()
        if word == "end":
            c.sock.settimeout(SLACK)
            return "" if c.file.read(1) == b"" else "still open"
        if word == "log":
            return "" if wait_for(lambda: self.run.logged(rest, self.lines),
                                  20) else "not in the log"
        if word == "pause":
            time.sleep(0.5)
            return ""
        return c.say(word)

    def connect(self):
        got = self.start()
        if got.startswith("220"):
            self.ehlo()
        return got

    def talk(self):
        steps = [s.strip() for s in self.case.talk.split(";")]
        greeting = self.connect()
        if steps[0].startswith("connect "):
            self.expect("connect", steps.pop(0)[8:], greeting)
        else:
            self.expect("connect", "220", greeting)
        data = None
        for step in steps:
            word, _, rest = step.partition(" ")
            if word == "." and not data.startswith("354"):
                continue
            began = time.monotonic()
            got = self.word(word, rest)
            if word == "D":
                data = got
            if word not in ("log", "pause"):
                self.longest = max(self.longest, time.monotonic() - began)
            if word in ("again", "drop"):
                rest = "220"
            self.expect(step, "" if word in ("end", "log", "pause") else rest,
                        got)
        self.client.close()

    @staticmethod
    def expect(step, prefixes, got):
        if prefixes == "":
            want(got == "", step, got)
        want(got.startswith(tuple(prefixes.split("|"))), step, got)


class Run:
    """A case in the gateway: its milters, its listener, its twin."""

    def __init__(self, number, case):
        self.case = case
        self.number = number
        self.name = f"case{number}"
        self.round = 0
        self.wrong = None
        self.sessions = []
        self.twins = []
        self.milters = []
        self.clients = []
        # what one reply may take: connect and message, and one more answer
        self.limit = (12 if case.short else 30) + SLACK
        self.dead = None

    def make(self, folder):
        """Its part of the configuration."""
        case = self.case
        path = f"{folder}/{self.name}.sock" if case.via == "unix" else None
        if case.at is None:
            endpoint = f"unix:{path}"
            if path is None:
                self.dead = socket.socket()
                self.dead.bind((run_host(self, 10), 0))
                endpoint = "inet:{1}@{0}".format(*self.dead.getsockname())
        else:
            self.milters.append(BadMilter(case.at, path,
                                          run_host(self, 10)))
            endpoint = self.milters[0].endpoint()
        if path is not None and case.at is not None:
            os.chmod(path, 0o777)
        self.asked = list(self.milters)  # those in the chain
        endpoints = f'"{endpoint}"'
        if case.also is not None:
            self.other = BadMilter(case.also, host=run_host(self, 10))
            endpoints += f' "{self.other.endpoint()}" '
            self.milters.append(self.other)
        chain = [self.name]
        text = (f'milter "{self.name}" {{ endpoints = {{ {endpoints} }} '
                f'{SHORT if case.short else LONG} '
                f'{case.conf.replace("DIR", folder)} }}\n')
        if case.second is not None:
            chain.append(f"{self.name}-2")
            self.milters.append(BadMilter(case.second,
                                          host=run_host(self, 10)))
            self.asked.append(self.milters[-1])
            text += (f'milter "{chain[1]}" {{ endpoints = '
                     f'{{ "{self.milters[-1].endpoint()}" }} {LONG} }}\n')
        names = " ".join(f'"{n}"' for n in chain)
        author = self.name if case.authoriser else "access"
        return (f'{text}policy "{self.name}" {{ authorise = "{author}" '
                f'chain = {{ {names} }} '
                f'{case.rules.replace("NAME", self.name)} }}\n'
                f'listener "{self.name}" {{ policy = "{self.name}" '
                f'address = {{ "{run_host(self)}:{gate_port}" }} }}\n')

    def logged(self, text, since=0):
        return any(re.search(text, line)
                   for line in log.of(self.name)[since:])

    def once(self):
        """The faulty sessions, between the two halves of the twin's."""
        case = self.case
        twin = Session(self, "twin")
        if case.twin:
            for m in self.asked:
                m.next_is_twin()
            Session.expect("twin", "220", twin.connect())
            Session.expect("twin M", "250", twin.mail())
            Session.expect("twin R", "250",
                           twin.client.say("RCPT TO:<r1@to.test>"))
        now = [Session(self, n) for n in range(case.sessions)]
        self.sessions += now
        with ThreadPoolExecutor(len(now)) as pool:
            for done in [pool.submit(s.talk) for s in now]:
                done.result()
        if case.twin:
            Session.expect("twin D", "354", twin.client.say("DATA"))
            Session.expect("twin .", "250", twin.dot())
            twin.client.close()
            self.twins += twin.sent
        if case.twin and "library" not in case.conf:
            self.later()
        longest = max(s.longest for s in now)
        want(longest < self.limit, "took", longest)
        if "library" not in case.conf:
            for m in self.milters:
                want(m.all_closed(20), "a connection stays open")

    def later(self):
        """A session that begins when the others are over."""
        late = Session(self, "late")
        for m in self.asked:
            m.next_is_twin()
        Session.expect("late", "220", late.connect())
        for word, code in (("M", "250"), ("R", "250"), ("D", "354"),
                           (".", "250")):
            Session.expect(f"late {word}", code, late.word(word, ""))
        late.client.close()
        self.twins += late.sent

    def go(self):
        try:
            self.once()
        except (Wrong, OSError) as e:
            self.wrong = self.wrong or (self.round, *e.args)
        finally:
            for s in self.clients:
                s.close()
            self.clients.clear()
        self.round += 1

    def seen(self):
        return set(self.milters[0].seen)

    def check(self):
        """What is true after the first round."""
        if self.wrong is None:
            try:
                self.check_all()
            except (Wrong, OSError) as e:
                self.wrong = e.args
        want(not self.wrong, *(self.wrong or ()))

    def check_all(self):
        case = self.case
        if self.milters and self.milters[0].conns:
            got = self.seen()
            want(set(case.seen.split()) <= got, "not seen", got)
            hidden = [u for u in case.unseen.split()
                      if any(s == u or s[0] == u for s in got)]
            want(not hidden, "seen", hidden)
        if case.conns is not None:
            want(self.milters[0].conns == case.conns, "connections",
                 self.milters[0].conns)
        if case.others is not None:
            want(self.other.conns == case.others, "connections to the other",
                 self.other.conns)
        self.check_log()
        self.check_counts()
        self.check_sink()
        self.check_record()

    def failure_lines(self):
        """Log lines about its failures: (id, text)."""
        found = []
        for line in log.of(self.name):
            m = re.search(rf" (\w+): milter={self.name}: "
                          rf"(?!dropped|authorised)(.*)", line)
            if m and "; next endpoint=" not in line:
                found.append(m.groups())
        return found

    def check_log(self):
        case = self.case
        lines = self.failure_lines()
        if case.log is None:
            want(not lines, "in the log", lines)
        else:
            want(wait_for(lambda: self.logged(case.log), 2), "not in the log",
                 log.of(self.name))
        if case.failures is not None:
            want(len(self.failure_lines()) == case.failures, "failures",
                 self.failure_lines())

    def check_counts(self):
        counts = dict(self.case.counts or {})
        if self.case.failures is not None:
            counts["failures"] = self.case.failures
        got = stats[self.name]
        want(all(got[k] == n for k, n in counts.items()), counts, got)

    def check_sink(self):
        case = self.case
        for s in self.sessions:
            for mark, sender, content in s.sent:
                self.check_message(mark, sender, content)
            for mark in s.refused:
                want(mark not in arrived and mark not in held, "refused, but "
                     "accepted", mark)
        for mark, sender, content in self.twins:
            fields = b"X-Twin: here\r\n" * (
                0 if "shadow" in case.conf else len(self.asked))
            expected = content.replace(b"\r\n\r\n",
                                       b"\r\n" + fields + b"\r\n", 1)
            want(mark in arrived, "the twin's message is lost")
            m = arrived[mark]
            want(len(m) == 1 and without_trace(m[0].content) == expected and
                 m[0].sender == sender and m[0].rcpts == ["r1@to.test"],
                 "twin", m[0].sender, m[0].rcpts, m[0].content[:600])

    def check_message(self, mark, sender, content):
        case = self.case
        where = case.sink
        if where == "drop":
            want(mark not in arrived and mark not in held, "not dropped")
        elif where == "groups":
            want(mark in arrived and mark not in held, "lost", mark)
            want(sorted(r for m in arrived[mark] for r in m.rcpts) == [
                "r1@to.test", "r2@to.test"], "recipients")
            want(all(without_trace(m.content) == content
                     for m in arrived[mark]), "content")
        elif isinstance(where, str) and where.startswith("held"):
            want(mark in held and mark not in arrived, "not held")
            m = held[mark]
            want(re.match(where[5:], m["reason"]), "reason", m["reason"])
            want(m["hold_by"] == self.name, m)
        else:
            want(mark in arrived, "lost", mark)
            want((mark in held) == (case.held is not None), "held")
            if case.held is not None:
                got = [r["address"] for r in held[mark]["recipients"]]
                want(got == case.held, "held for", got)
            want(len(arrived[mark]) == 1, "twice")
            m = arrived[mark][0]
            expected = where(content) if callable(where) else content
            got = without_trace(m.content)
            want(got == expected, "content", got[:600], expected[:600])
            want(sorted(m.rcpts) == (case.rcpts or ["r1@to.test"]), m.rcpts)
            want(m.sender == (sender if case.sender is None else case.sender),
                 m.sender)

    def check_record(self):
        """The decision record names a failure as the log does; one that comes
        after the message's end is too late for it."""
        if self.case.failures is None:
            return
        for ident, text in self.failure_lines()[:1]:
            if ident == "NOQUEUE":
                continue
            record = wait_for(lambda i=ident: gate.ctl_json("explain", i), 10)
            want(record, "no decision record of", ident)
            why = [m.get("failure") for one in (
                record if isinstance(record, list) else [record])
                for m in one["milters"] if m["name"] == self.name]
            want(text in why, "record", text, record)


def run_host(run, net=9):
    """An address of its own: no port that is free can be taken meanwhile."""
    return f"127.{net}.{run.number // 200}.{run.number % 200 + 1}"


def bystander(chain):
    """A session after the other, with another milter or none."""
    began = time.monotonic()
    while not done.is_set():
        mark = f"{chain}-{len(others)}-{threading.get_ident()}"
        content = b"X-Case: %s\r\n\r\nx\r\n" % mark.encode()
        start = time.monotonic()
        c = (Client(gate, host="127.8.0.1", port=gate_port)
             if chain == "good" else Client(gate))
        got = c.send(content, sender=f"{mark}@from.test")
        c.close()
        others.append((chain, mark, got, time.monotonic() - start))
        time.sleep(0.05)
    return time.monotonic() - began


def all_cases(which):
    """Each once, side by side, those that wait first."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(Run.go, sorted(
                which, key=lambda r: not r.case.short)):
            pass


def receivers():
    return [p["pid"] for p in gate.ctl_json("status")["processes"]
            if p["name"].startswith("receiver")]


def descriptors():
    return sum(len(os.listdir(f"/proc/{p}/fd")) for p in receivers())


def memory():
    """Resident KiB, of all receivers."""
    total = 0
    for p in receivers():
        with open(f"/proc/{p}/status") as f:
            total += next(int(line.split()[1]) for line in f
                          if line.startswith("VmRSS"))
    return total


def milter_stats():
    found = {}

    def walk(what):
        if isinstance(what, dict):
            if "name" in what and "fail_opens" in what:
                found[what["name"]] = what
            for value in what.values():
                walk(value)
        elif isinstance(what, list):
            for value in what:
                walk(value)
    walk(gate.ctl_json("status"))
    return found


def marked(messages):
    by = {}
    for m in messages:
        mark = re.search(rb"^X-Case: (\S+)", m.content, re.M)
        if mark:
            by.setdefault(mark.group(1).decode(), []).append(m)
    return by


def by_sender():
    return {m["sender"].split("@")[0]: m for m in gate.ctl_json(
        "queue", "list")}


def chosen():
    names = sys.argv[1:]
    for name in names:
        assert any(c.name == name for c in cases), name
    return [c for c in cases if not names or c.name in names]


names = [c.name for c in cases]
assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
sink = Sink()
gate_port = free_port()
runs = [Run(i, c) for i, c in enumerate(chosen())]
good = BadMilter({"E": GOOD}, host="127.10.255.1")
gate = Gateway(sink.port)
subprocess.run(
    ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
     "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=ca.test",
     "-keyout", "/dev/null", "-out", f"{gate.dir}/ca.pem"], check=True,
    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with open(gate.conf, "a") as conf:
    conf.write(f"""stop-time = 5s
limits {{ message-size = {BODY_MAX} sessions-per-client = 999 }}
milter "good" {{ endpoints = {{ "{good.endpoint()}" }} }}
policy "good" {{ authorise = "access" chain = {{ "good" }} }}
listener "good" {{ policy = "good" address = {{ "127.8.0.1:{gate_port}" }} }}
""")
    conf.writelines(run.make(gate.dir) for run in runs)
done = threading.Event()
others = []
log = Log()
stats, arrived, held = {}, {}, {}


@tap.test("sessions without these milters go on")
def _():
    aside = [threading.Thread(target=bystander, args=(chain,))
             for chain in ("none", "good")]
    for t in aside:
        t.start()
    began = time.monotonic()
    all_cases(runs)
    print(f"# {len(runs)} cases in {time.monotonic() - began:.1f} s")
    done.set()
    for t in aside:
        t.join()
    assert all(got.startswith("250 ") for _, _, got, _ in others), others
    slowest = max(took for *_, took in others)
    assert slowest < SLACK, slowest
    # What left the queue is at the sink, or dropped.
    wait_for(lambda: all(m["state"] == "held" for m in gate.ctl_json(
        "queue", "list")), 30, 0.2)
    held.update(by_sender())
    stats.update(milter_stats())
    arrived.update(marked(list(sink.messages)))
    for chain, mark, _, _ in others:
        assert mark in arrived, mark
        fields = b"X-Good: yes\r\n" if chain == "good" else b""
        assert [without_trace(m.content) for m in arrived[mark]] == [
            b"X-Case: %s\r\n%s\r\nx\r\n" % (mark.encode(), fields)], mark


for run in runs:
    @tap.test(f"rule {run.case.rule}: {run.case.name}")
    def _(run=run):
        run.check()


@tap.test("nothing else arrived or is held")
def _():
    known = {mark for run in runs for s in run.sessions for mark, *_ in s.sent}
    known |= {mark for run in runs for mark, *_ in run.twins}
    known |= {mark for _, mark, _, _ in others}
    assert not (set(arrived) | set(held)) - known


@tap.test("descriptors and memory do not grow when all is repeated")
def _():
    again = [r for r in runs if not r.case.short and not r.wrong and
             "library" not in r.case.conf]
    all_cases(again)
    before, held_open = memory(), descriptors()
    for _ in range(ROUNDS):
        all_cases(again)
    wrong = [(r.case.name, r.wrong) for r in again if r.wrong]
    assert not wrong, wrong
    assert wait_for(lambda: descriptors() <= held_open, 10, 0.2), (
        descriptors(), held_open)
    grown = memory() - before
    print(f"# {before} KiB, {grown} more; {held_open} descriptors")
    assert SANITIZED or grown < GROWTH, (before, grown)


@tap.test("no process ended")
def _():
    status = gate.ctl_json("status")
    assert not [p for p in status["processes"] if p["restarts"]], status


try:
    with gate:
        tap.run()
finally:
    sink.listener.close()
