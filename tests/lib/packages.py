# SPDX-License-Identifier: ISC
"""packages - Debian packages unpacked for a test, never installed.

Servers and other people's milters conflict with each other and would start
when installed, so their files are laid into a folder of their own and seen
through an overlay in a private mount namespace.  The folder is kept below
/var/tmp for the next run.
"""
import fcntl
import glob
import os
import re
import shutil
import subprocess

CACHE = f"/var/tmp/milldam-packages-{os.getuid()}"


def run(*cmd, **kw):
    return subprocess.run(cmd, check=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **kw).stdout


def missing(names):
    """The packages and those of what they need that is not installed."""
    plan = run("apt-get", "-s", "install", "--no-install-recommends", *names)
    needed = re.findall(r"^Inst (\S+)", plan, re.M)
    return sorted(set(needed) | set(names))


def download(name, folder):
    found = glob.glob(f"{folder}/{name}_*.deb")
    if not found:
        try:
            run("apt-get", "-q", "download", name, cwd=folder)
        except subprocess.CalledProcessError:
            run("apt-get", "-q", "update")
            run("apt-get", "-q", "download", name, cwd=folder)
        found = glob.glob(f"{folder}/{name}_*.deb")
    return found[0]


def unpack(title, names, closure=True):
    """The folder with the packages' files, /usr merged."""
    debs = CACHE + "/debs"
    root = f"{CACHE}/{title}"
    os.makedirs(debs, exist_ok=True)
    os.chmod(CACHE, 0o755)
    with open(CACHE + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(root + "/.done"):
            return root
        shutil.rmtree(root, ignore_errors=True)
        for name in (missing(names) if closure else names):
            run("dpkg", "-x", download(name, debs), root)
        for folder in ("lib", "lib64", "sbin", "bin"):
            old = f"{root}/{folder}"
            if os.path.isdir(old) and not os.path.islink(old):
                shutil.copytree(old, f"{root}/usr/{folder}", symlinks=True,
                                dirs_exist_ok=True)
                shutil.rmtree(old)
        os.makedirs(root + "/usr", exist_ok=True)
        os.makedirs(root + "/etc", exist_ok=True)
        open(root + "/.done", "w").close()
    return root
