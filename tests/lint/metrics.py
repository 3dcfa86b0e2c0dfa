#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""metrics.py - the metrics that processes say, the page's table and
docs/metrics.md are the same, with the same types"""
import glob
import os
import re

top = os.environ.get("srcdir", ".")


def read(name):
    with open(os.path.join(top, name)) as f:
        return f.read()


table = dict(re.findall(r'\{ "(milldam_\w+)",\s*(COUNTER|GAUGE|HISTOGRAM),',
                        read("core/web/page.c")))
docs = {n: t.upper() for n, t in re.findall(
    r"^\| `(milldam_\w+)` \| (\w+) \|", read("docs/metrics.md"), re.M)}
said = set()
for path in glob.glob(os.path.join(top, "core/*/*.c")):
    if "metric.h" in read(os.path.relpath(path, top)) and \
            not path.endswith("core/web/page.c"):
        with open(path) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        said |= set(re.findall(r'"(milldam_[a-z_]+)"', text))
said = {re.sub("_(bucket|sum|count)$", "", n)
        if re.sub("_(bucket|sum|count)$", "", n) in table else n for n in said}
tests = [
    ("docs/metrics.md tells of every metric, with its type",
     sorted(set(table.items()) ^ set(docs.items()))),
    ("every metric of the page is said by some process",
     sorted(set(table) - said)),
    ("every metric that a process says is on the page",
     sorted(said - set(table))),
    ("counters end in _total, nothing else does",
     sorted(n for n, t in table.items()
            if n.endswith("_total") != (t == "COUNTER"))),
    ("there are metrics", [] if len(table) > 40 else ["no"]),
]
print(f"1..{len(tests)}")
for i, (name, bad) in enumerate(tests, 1):
    for b in bad:
        print(f"# {b}")
    print(f"{'not ' if bad else ''}ok {i} - {name}")
