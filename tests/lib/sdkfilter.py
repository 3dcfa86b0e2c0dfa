# SPDX-License-Identifier: ISC
"""sdkfilter - build tests/e2e/sdk_filter.c with the installed SDK"""
import os
import subprocess

from gateway import INST, TOP

SANITIZE = os.environ.get("MILLDAM_SANITIZE", "").split()


def build(program, sanitize=()):
    env = dict(os.environ, PKG_CONFIG_PATH=f"{INST}/lib/pkgconfig")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "milldam"], env=env, check=True,
        capture_output=True, text=True, timeout=20).stdout.split()
    subprocess.run(
        [os.environ.get("CC", "cc").split()[0], "-g", "-D_GNU_SOURCE", "-o",
         program, TOP + "/tests/e2e/sdk_filter.c", *flags,
         f"-Wl,-rpath,{INST}/lib", *sanitize], check=True, timeout=120)
