# SPDX-License-Identifier: ISC
"""netns - a test in a network namespace of its own, to use low ports there"""
import os
import subprocess
import sys


def own_network():
    """Starts this program again in a new network with loopback only."""
    if os.environ.get("MILLDAM_NETNS") != str(os.getpid()):
        os.environ["MILLDAM_NETNS"] = str(os.getpid())  # kept by exec
        os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
