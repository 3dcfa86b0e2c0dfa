# SPDX-License-Identifier: ISC
"""miltertest - OpenDKIM's miltertest plays an MTA to each shipped milter and to
an example of the SDK, by the scripts in tests/milter"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import INST, TOP, Tap  # noqa: E402
from milterclient import Filter, program  # noqa: E402
from pair import ENGINES  # noqa: E402

tap = Tap()
SCRIPTS = TOP + "/tests/milter"


def settings(name):
    with open(f"{SCRIPTS}/{name}.conf") as f:
        return f.read().replace("@TOP@", TOP)


def run(name, f):
    """The script against a filter: status, and a line for each case."""
    table = f"{SCRIPTS}/{name}.table"
    if os.path.exists(table):
        shutil.copy(table, f.dir + "/table")
    with f:
        got = subprocess.run(
            ["miltertest", "-D", "sock=unix:" + f.path, "-D",
             f"lib={SCRIPTS}/lib.lua", "-s", f"{SCRIPTS}/{name}.lua"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120)
    lines = [line for line in got.stdout.splitlines() if " - " in line]
    for line in lines:
        print(f"# {name}: {line}", flush=True)
    return got.returncode, lines, got.stderr


def passes(name, path):
    with open(f"{SCRIPTS}/{name}.lua") as f:
        cases = sum(line.startswith("case(") for line in f)
    for engine in ENGINES:
        status, lines, errors = run(
            name, Filter(path, settings(name), engine))
        assert status == 0 and len(lines) == cases >= 4, (
            engine, status, errors)
        assert all(line.startswith("ok ") for line in lines), engine


for name in ("access", "virus", "rewrite"):
    @tap.test(f"milldam-{name}: verdicts, changes, and macros that count")
    def _(name=name):
        passes(name, program("milldam-" + name))


@tap.test("an example of the SDK")
def _():
    work = tempfile.mkdtemp(prefix="milldam-test.", dir="/tmp")
    try:
        folder = shutil.copytree(
            INST + "/share/milldam/examples/tag-external", work + "/x")
        how = ["CFLAGS=-g " + os.environ["MILLDAM_SANITIZE"]] \
            if "MILLDAM_SANITIZE" in os.environ else []
        subprocess.run(["make", "-s", "-C", folder, *how], check=True, env=dict(
            os.environ, PKG_CONFIG_PATH=INST + "/lib/pkgconfig"))
        passes("tag-external", folder + "/milldam-tag-external")
    finally:
        shutil.rmtree(work)


@tap.test("a filter with other settings does not pass (negative control)")
def _():
    for name, have, want in (
            ("access", "to.test", "other.test"),
            ("virus", "scanners = 1", 'action = "quarantine"'),
            ("rewrite", '"gate"', '"other"')):
        other = settings(name).replace(have, want)
        status, lines, _ = run(name, Filter(program("milldam-" + name), other))
        bad = [line for line in lines if line.startswith("not ok ")]
        assert status != 0 and 0 < len(bad) < len(lines), (name, lines)


tap.run()
