# SPDX-License-Identifier: ISC
"""policy - rules pick the chain; milldamctl tells which, and why"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import INST, Client, Gateway, Tap, wait_for  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: p\r\n\r\nx\r\n"
TAG = 'header "t" { name = "X-%s" action = "add" value = "yes" }\n'
MILTERS = "".join(
    f'milter "{n}" {{ run = "milldam-rewrite" settings = "{n}.conf" }}\n'
    for n in ("one", "two", "three"))
POSTURES = ("backup-mx", "external-relay", "internal-relay", "lists-host",
            "null-client", "submission")


def ctl(*words, status=0):
    p = subprocess.run([os.path.join(INST, "bin/milldamctl"), *words],
                       stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=30)
    assert p.returncode == status, p
    return p


def ask(*words, status=0):
    """milldamctl --json policy test of the gateway's file"""
    p = ctl("--json", "policy", "test", "-f", gate.conf, *words,
            status=status)
    return json.loads(p.stdout) if status == 0 else p.stderr


def names(chain):
    """["access", "-one"]: the milters in order, skipped ones marked"""
    return [("-" if s["skipped"] else "") + s["milter"]
            for s in chain["chain"]]


def write(rules, name="local.conf"):
    with open(os.path.join(gate.dir, name), "w") as f:
        f.write(f'policy "inbound" {{\n{rules}\n}}\n')


def reload(rules, ok=True):
    write(rules)
    p = gate.ctl("reload")
    assert (p.returncode == 0) == ok, p
    return p.stderr


def tags(sender="a@from.test", helo="client.test"):
    """Which milters changed a message, in order."""
    n = len(sink.messages)
    client = Client(gate)
    client.say(f"EHLO {helo}")
    assert client.send(MAIL, sender=sender, ehlo=False).startswith("250 ")
    assert wait_for(lambda: len(sink.messages) > n)
    return [t.decode() for t in re.findall(
        rb"^X-(\w+): yes", sink.messages[n].content, re.M)]


@tap.test("rules by sender, HELO, client and listener pick the chain")
def _():
    reload("")
    assert tags() == ["one", "two"]
    reload('rule "s" { sender = {"list@*"} skip = {"one"} }\n'
           'rule "h" { helo = {".partner.test"} add = {"three before two"} }\n'
           'rule "c" { client = {"192.0.2.0/24"} skip = {"two"} }\n'
           'rule "l" { listener = "mx" sender-domain = "other.test"\n'
           ' chain = {"three", "one"} }\n')
    assert tags() == ["one", "two"]
    assert tags(sender="List@from.test") == ["two"]
    assert tags(helo="mx.partner.test") == ["one", "three", "two"]
    assert tags(sender="x@other.test") == ["three", "one"]


@tap.test("two messages of one session have each its chain")
def _():
    reload('rule "s" { sender = {"list@*"} chain = {"three"} }\n')
    client = Client(gate)
    n = len(sink.messages)
    for sender in ("a@from.test", "list@from.test", "b@from.test"):
        assert client.send(MAIL, sender=sender).startswith("250 ")
    assert wait_for(lambda: len(sink.messages) == n + 3)
    got = {m.sender: re.findall(rb"^X-(\w+): yes", m.content, re.M)
           for m in sink.messages[n:]}
    assert got == {"a@from.test": [b"one", b"two"],
                   "list@from.test": [b"three"],
                   "b@from.test": [b"one", b"two"]}, got


@tap.test("the first rule that matches, or all of them")
def _():
    rules = ('rule "1" { client = "127.0.0.0/8" skip = {"one"} }\n'
             'rule "2" { client = "127.0.0.1" skip = {"two"} }\n')
    reload('match = "first"\n' + rules)
    assert tags() == ["two"]
    reload('match = "all"\n' + rules)
    assert tags() == []
    reload(rules.replace("}\n", "last = yes }\n", 1))
    assert tags() == ["two"]


@tap.test("a rule's mode: a shadow milter is asked and changes nothing")
def _():
    reload('rule "m" { sender = "s@*" mode = {"one=shadow", "two=off"} }\n')
    assert tags() == ["one", "two"]
    assert tags(sender="s@from.test") == []
    line = [x for x in gate.log_text().splitlines()
            if "from=<s@from.test>" in x][-1]
    assert "one=" in line and "[shadow]" in line and "two=" not in line, line


@tap.test("the decision record names the rule and its place")
def _():
    reload('rule "quiet" {\n sender = "q@*"\n skip = {"one"}\n}\n')
    reply = Client(gate).send(MAIL, sender="q@from.test")
    ident = reply.split()[2]
    record = json.dumps(gate.ctl_json("explain", ident))
    assert '"rule": "quiet"' in record and "local.conf:4" in record, record


@tap.test("policy test: the chain of each recipient, and the rule behind it")
def _():
    write('rule "abuse desk" {\n recipient = {"abuse@*"}\n skip = {"one"} }\n'
          'rule "finance" {\n recipient-domain = "fin.test"\n'
          ' add = {"three"}\n mode = {"three=shadow"}\n'
          ' on-failure = {"two=accept"} }\n'
          'rule "big" { size = ">1M" skip = {"two"} }\n')
    session = ("--client", "192.0.2.1", "--from", "<a@b.test>")
    a, b, c, d = ask(*session, "--to", "abuse@x.test", "--to", "u@fin.test",
                     "--to", "<Abuse@fin.test>", "--to", "abuse@y.test")
    assert names(a) == ["access", "-one", "two"], a
    assert names(b) == ["access", "one", "two", "three"], b
    assert names(c) == ["access", "-one", "two", "three"], c
    assert [x["group"] for x in (a, b, c, d)] == [1, 2, 3, 1]
    by = a["chain"][1]["by"]
    assert by["rule"] == "abuse desk" and by["line"] == 4 and \
        by["file"].endswith("/local.conf"), by
    three = b["chain"][3]
    assert three["mode"] == "shadow" and three["by"]["line"] == 7 and \
        three["mode_by"]["line"] == 8, three
    assert b["chain"][2]["on_failure_by"]["line"] == 9
    assert "rule" not in a["chain"][0]["by"]  # the policy's own chain
    assert [r["rule"] for r in a["open"]] == ["big"]
    assert names(ask(*session, "--to", "a@b", "--size", "2M")[0]) == \
        ["access", "one", "-two"]
    text = ctl("policy", "test", "-f", gate.conf, *session, "--to",
               "abuse@x.test").stdout
    assert re.search(r'^  one +skipped .*rule "abuse desk" \S+local.conf:4$',
                     text, re.M), text
    assert re.search(r'open: rule "big" \S+:10', text), text


@tap.test("policy test: times, tables, headers, verdicts")
def _():
    with open(gate.dir + "/vip", "w") as f:
        f.write("ceo@x.test strict\n")
    write('rule "night" { time = "22:00-06:00" skip = {"one"} }\n'
          f'rule "vip" {{ table = "recipient text:{gate.dir}/vip str*" '
          'add = {"three"} }\n'
          'rule "list" { header = "List-Id" skip = {"two"} }\n'
          'rule "v" { verdict = {"one=accept"} skip = {"two"} }\n')
    session = ("--client", "::1", "--at", "2026-11-21 12:00")
    assert names(ask(*session, "--to", "a@x.test")[0]) == \
        ["access", "one", "two"]
    assert names(ask(*session, "--to", "CEO@x.test")[0]) == \
        ["access", "one", "two", "three"]
    assert names(ask("--client", "::1", "--at", "2026-11-21 23:00", "--to",
                     "a@x.test")[0]) == ["access", "-one", "two"]
    for more in (("--header", "list-id: <l>"), ("--verdict", "one=accept")):
        assert names(ask(*session, "--to", "a@x.test", *more)[0]) == \
            ["access", "one", "-two"]
    os.remove(gate.dir + "/vip")
    assert "vip" in ask(*session, "--to", "a@x.test", status=1)
    write("")


@tap.test("policy test: mistakes of usage and configuration")
def _():
    assert "usage" in ask(status=64)
    assert "no address" in ask("--client", "here", status=64)
    assert "listener" in ask("--client", "::1", "--listener", "x", status=64)
    write('rule "r" {\n skip = {"access"}\n}\n')
    assert "local.conf:3: a rule may not skip the authoriser" in \
        ask("--client", "::1", status=78)
    write("")
    ctl("policy", "frob", status=64)


@tap.test("policy show: the policy after all files, which can be read again")
def _():
    write('rule "r" {\n sender = {"a@*", "!b@*"}\n skip = {"one"}\n}\n')
    text = ctl("policy", "show", "-f", gate.conf).stdout
    assert 'policy "inbound" {' in text and \
        re.search(r'skip = \{"one"\}\t# \S+local.conf:4$', text, re.M), text
    assert 'sender = {"a@*", "!b@*"}' in text, text
    again = os.path.join(gate.dir, "again.conf")
    with open(gate.conf) as f:
        rest = [x for x in f.read().splitlines()
                if not x.startswith(("policy", "include"))]
    with open(again, "w") as f:
        f.write("\n".join(rest) + "\n" + text)
    write("")
    second = ctl("policy", "show", "-f", again).stdout
    strip = re.compile(r"\t# .*")
    assert strip.sub("", second) == strip.sub("", text), second
    assert ctl("policy", "show", "-f", gate.conf, "none",
               status=1).stdout == ""


@tap.test("every shipped posture is without mistakes and can be taken")
def _():
    etc = os.path.join(INST, "etc/milldam")
    with open(os.path.join(gate.dir, "signatures.conf"), "w") as f:
        f.write(f'databases = {{"{gate.dir}"}}\n')  # none of the machine's
    with open(os.path.join(gate.dir, "posture2.conf"), "w") as f:
        f.write('milter "virus" { settings = "signatures.conf" }\n')
    path = os.path.join(gate.dir, "posture.conf")
    for name in POSTURES:
        more = 'include "posture2.conf"\n' if name != "null-client" else ""
        with open(path, "w") as f:
            f.write('hostname = "h.test"\npostmaster = "p@h.test"\n'
                    f'include "{etc}/{name}.policy"\n'
                    f'{more}listener "l" {{ address = {{"127.0.0.1:2525"}} '
                    f'policy = "{name}" }}\n')
        p = subprocess.run([INST + "/sbin/milldam", "-n", "-f", path],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == 0, (name, p)
        out = ctl("policy", "show", "-f", path).stdout
        assert "authorise = " in out, out
    with open(path, "w") as f:
        f.write('postmaster = "p@h.test"\n')
        f.writelines(f'include "{etc}/{n}.policy"\n' for n in POSTURES)
    assert ctl("policy", "show", "-f", path).stdout.count("policy ") == 6


@tap.test("the list manager's mail is not scanned again, by its posture")
def _():
    path = os.path.join(gate.dir, "lists.conf")
    with open(path, "w") as f:
        f.write('postmaster = "p@h.test"\n'
                f'include "{INST}/etc/milldam/lists-host.policy"\n'
                'listener "l" { address = {"127.0.0.1:2525"} }\n')
    for client, sender, want in (("127.0.0.1", "l-bounces@x", "-virus"),
                                 ("127.0.0.1", "joe@x", "virus"),
                                 ("192.0.2.1", "l-bounces@x", "virus")):
        p = ctl("--json", "policy", "test", "-f", path, "--client", client,
                "--from", sender, "--to", "a@b")
        assert names(json.loads(p.stdout)[0])[1] == want, p


gate = Gateway(sink.port, chain=("access", "one", "two"), milters=MILTERS,
               extra='include "local*.conf"\n',
               files={n + ".conf": TAG % n for n in ("one", "two", "three")})
write("# nothing yet\nrule \"any\" { add = {\"three\"} client = {192.0.2.1} }")
with gate:
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
