# SPDX-License-Identifier: ISC
"""quickstart - the tour succeeds, and fails when something is wrong"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import TOP, Tap  # noqa: E402

tap = Tap()


def tour(*args):
    p = subprocess.run([sys.executable, TOP + "/tests/lib/quickstart.py",
                        *args], stdin=subprocess.DEVNULL, timeout=120,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True)
    print("# " + p.stdout.replace("\n", "\n# "))
    return p.returncode


@tap.test("every message fares as it should")
def _():
    assert tour() == 0


@tap.test("with the virus milter stopped it fails")
def _():
    assert tour("--fault=virus") != 0


@tap.test("with one byte changed on the way to the sink it fails")
def _():
    assert tour("--fault=byte") != 0


tap.run()
