# SPDX-License-Identifier: ISC
"""rewrite_test - milldam-rewrite over the Milter protocol"""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from milterclient import Filter, has, run_tests, same, wait_for

SETTINGS = r"""
masquerade-as = "example.org"
masquerade-domains = {"host.example.org", ".in.example.org"}
masquerade-envelope = yes
exposed-users = {"root"}
match-limit = 20000

header "tag" { name = "Subject" match = "^\\[spam\\] (.*)" action = "change"
    value = "SPAM: $1" }
header "strip" { name = "X-Internal" action = "delete" }
header "slow" { name = "X-Slow" match = "^(a+)+$" action = "delete" }
header "site" { name = "X-Site" action = "add" value = "gate" }
header "top" { name = "X-Top" in = "Subject" match = "urgent"
    action = "insert" value = "yes" }
"""


def passes_untouched():
    """rewrite: a message without need passes with its one new field"""
    with Filter("milldam-rewrite", SETTINGS) as f:
        r = f.scan([("From", "x@y.test"), ("Subject", "hello")], b"x\r\n",
                   sender="x@y.test")
        same(r.code in (b"c", b"a"), True)
        same(r.edits, [("add", "X-Site", "gate")])


def changes_and_deletes():
    """rewrite: rules change, insert and delete"""
    with Filter("milldam-rewrite", SETTINGS) as f:
        r = f.scan([("Subject", "[spam] urgent\n things"),
                    ("X-Internal", "1"), ("x-internal", "2")])
        edits = [tuple(v.strip() if isinstance(v, str) else v for v in e)
                 for e in r.edits]
        for want in (("change", 1, "Subject", "SPAM: urgent things"),
                     ("add", "X-Site", "gate")):
            same(want in edits, True)
        deleted = sorted(e[1] for e in edits
                         if e[0] == "change" and e[3] == "")
        same(deleted, [1, 2])
        same([e[2:] for e in edits if e[0] == "insert"], [("X-Top", "yes")])


def masquerades():
    """rewrite: From, Reply-To and the envelope are masqueraded"""
    with Filter("milldam-rewrite", SETTINGS) as f:
        r = f.scan([("From", "\"a, b\" <bob@host.example.org>\n\t(c)"),
                    ("To", "ann@host.example.org"),
                    ("Reply-To", "root@host.example.org, x@a.in.example.org")],
                   sender="bob@host.example.org")
        changed = {e[2]: e[3].strip() for e in r.edits if e[0] == "change"}
        same(changed, {"From": "\"a, b\" <bob@example.org>\n\t(c)",
                       "Reply-To": "root@host.example.org, x@example.org"})
        same([e for e in r.edits if e[0] == "sender"][0][1].strip("<>"),
             "bob@example.org")


def fails_closed():
    """rewrite: a match over its limits is 451, not a silent pass"""
    with Filter("milldam-rewrite", SETTINGS) as f:
        r = f.scan([("X-Slow", "a" * 40 + "b")])
        same((r.code, r.text[:3], r.edits), (b"y", "451", []))
        has(f.log(), 'rule "slow"')
        r = f.scan([("Subject", "next")])
        same(r.code in (b"c", b"a"), True)


def reports_mistakes():
    """rewrite: all mistakes of the settings are reported with their place"""
    f = Filter("milldam-rewrite", 'masquerade-as = "a b"\n'
               'header "x" { name = "A" match = "(" action = "delete" }\n'
               'header "y" { name = "A" action = "frob" }\n')
    status, text = f.check()
    same(status, 78)
    for line in (1, 2, 3):
        has(text, f"filter.conf:{line}:")
    f.__exit__(None)


def reloads():
    """rewrite: SIGHUP brings new rules; with mistakes the old ones stay"""
    with Filter("milldam-rewrite", SETTINGS) as f:
        def added():
            r = f.scan([("Subject", "x")])
            return [e[2] for e in r.edits if e[0] == "add"]
        same(added(), ["gate"])
        f.write(SETTINGS.replace('"gate"', '"two"'))
        f.proc.send_signal(signal.SIGHUP)
        same(wait_for(lambda: added() == ["two"], 10), True)
        f.write('header "x" { name = "A" action = "frob" }\n')
        f.proc.send_signal(signal.SIGHUP)
        same(wait_for(lambda: "filter.conf:1" in f.log(), 10), True)
        same(added(), ["two"])


sys.exit(run_tests([passes_untouched, changes_and_deletes, masquerades,
                    fails_closed, reports_mistakes, reloads]))
