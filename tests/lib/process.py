# SPDX-License-Identifier: ISC
"""process - end a program that a test started"""
import subprocess


def end(proc, seconds=30):
    """Its exit status after a SIGTERM or, where that is not enough, SIGKILL."""
    proc.terminate()
    try:
        return proc.wait(seconds)
    except subprocess.TimeoutExpired:
        proc.kill()
        return proc.wait()
