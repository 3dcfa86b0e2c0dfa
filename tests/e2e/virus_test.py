# SPDX-License-Identifier: ISC
# slow
"""virus_test - milldam-virus over the Milter protocol

The database is tests/data/signatures, with one signature for the EICAR test
string.
"""
import base64
import io
import os
import shutil
import signal
import sys
import threading
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from milterclient import (Filter, children, has, installed, process_name,
                          run_tests, same, wait_for)

SIGNATURES = os.path.join(HERE, "..", "data", "signatures")
EICAR = (rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$"
         + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")
NAME = "Milldam.Test.EICAR.UNOFFICIAL"
HEADER = [("From", "a@a.test"), ("Subject", "x"), ("MIME-Version", "1.0"),
          ("Content-Type", "multipart/mixed;\n\tboundary=bb")]
SETTINGS = f"""
databases = "{SIGNATURES}"
temp-directory = "@DIR@"
max-size = 1M
"""


def with_attachment(data):
    return (b"--bb\r\nContent-Type: text/plain\r\n\r\nhello\r\n--bb\r\n"
            b"Content-Type: application/octet-stream\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(data).replace(b"\n", b"\r\n")
            + b"--bb--\r\n")


def zipped(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("file.com", data)
    return out.getvalue()


def virus(more="", settings=SETTINGS):
    return Filter("milldam-virus", settings + more)


def passed(r):
    same((r.code in (b"c", b"a"), r.edits), (True, []))


def refused(r):
    same(r.code, b"y")
    same(r.text[:10], "550 5.7.1 ")
    has(r.text, f"virus {NAME} found")


def deferred(r):
    same(r.code in (b"y", b"t"), True)
    if r.code == b"y":
        same(r.text[:3], "451")


def scanners(f):
    return sorted(p for p in children(f.proc.pid)
                  if process_name(p) == "virus-scan")


def finds():
    """virus: clean mail passes; EICAR in base64 and in a zip is 550"""
    with virus() as f:
        passed(f.scan(HEADER, with_attachment(b"harmless")))
        passed(f.scan(HEADER, b""))
        passed(f.scan([], b"no header\r\n"))
        refused(f.scan(HEADER, with_attachment(EICAR)))
        refused(f.scan(HEADER, with_attachment(zipped(EICAR))))
        refused(f.scan(HEADER, with_attachment(zipped(zipped(EICAR)))))
        has(f.log(), f"name={NAME}")


def first_field_does_not_matter():
    """virus: an attachment is found whatever field comes first"""
    with virus() as f:
        for name in ("X-Unknown", "Zebra", "Content-Type2"):
            refused(f.scan([(name, "1")] + HEADER, with_attachment(EICAR)))


def marks():
    """virus: action header adds the name, and removes forged fields"""
    with virus('action = "header"\nheader-name = "X-Found"\n') as f:
        r = f.scan(HEADER + [("X-Found", "none")], with_attachment(EICAR))
        same(r.code in (b"c", b"a"), True)
        edits = {(e[0], e[-2], e[-1].strip()) for e in r.edits}
        same(edits, {("change", "X-Found", ""), ("add", "X-Found", NAME)})


def quarantines():
    """virus: action quarantine holds the message, classes may differ"""
    with virus('action = "quarantine"\n') as f:
        r = f.scan(HEADER, with_attachment(EICAR))
        same(r.edits, [("quarantine", f"virus {NAME}")])
        same(r.code in (b"c", b"a"), True)
    with virus('action = "quarantine"\n'
               'class "tests" { match = {"*.Test.*"} action = "reject" }\n'
               'reply = "no {name} here"\n') as f:
        has(f.scan(HEADER, with_attachment(EICAR)).text,
            f"550 5.7.1 no {NAME} here")


def survives_a_killed_scanner():
    """virus: a killed scanner is 451 in mid-scan, and replaced"""
    with virus("scanners = 1\n") as f:
        old = scanners(f)
        same(len(old), 1)
        os.kill(old[0], signal.SIGSTOP)
        timer = threading.Timer(0.5, os.kill, (old[0], signal.SIGKILL))
        timer.start()
        deferred(f.scan(HEADER, with_attachment(EICAR)))
        timer.join()
        refused(f.scan(HEADER, with_attachment(EICAR)))
        passed(f.scan(HEADER, with_attachment(b"harmless")))
        new = scanners(f)
        same((len(new), new != old), (1, True))
        # One that dies between two messages costs none.
        os.kill(new[0], signal.SIGKILL)
        same(wait_for(lambda: scanners(f) == [], 5), True)
        refused(f.scan(HEADER, with_attachment(EICAR)))


def ends_a_hanging_scanner():
    """virus: a scanner that does not answer in time is 451 and is replaced"""
    with virus("scanners = 1\nscan-timeout = 2s\nmax-scantime = 1s\n") as f:
        os.kill(scanners(f)[0], signal.SIGSTOP)
        deferred(f.scan(HEADER, with_attachment(EICAR)))
        refused(f.scan(HEADER, with_attachment(EICAR)))
        has(f.log(), "did not answer in time")


def replaces_the_zygote():
    """virus: mail is scanned again after the database process was killed"""
    with virus() as f:
        zygote = [p for p in children(f.proc.pid)
                  if process_name(p) == "virus-database"]
        same(len(zygote), 1)
        os.kill(zygote[0], signal.SIGKILL)
        same(wait_for(lambda: scanners(f) == [], 5), True)

        def again():
            r = f.scan(HEADER, with_attachment(EICAR))
            if r.text[:3] == "550":
                return True
            deferred(r)
            return False
        same(wait_for(again, 20, 0.5), True)


def reloads_under_load():
    """virus: SIGHUP brings a new database with no message in between lost"""
    with virus() as f:
        base = os.path.join(f.dir, "signatures")
        shutil.copytree(SIGNATURES, base)
        f.write(SETTINGS.replace(SIGNATURES, base))
        stop, results = threading.Event(), []

        def load():
            while not stop.is_set():
                results.append(f.scan(HEADER, with_attachment(EICAR)))
        threads = [threading.Thread(target=load) for _ in range(3)]
        for t in threads:
            t.start()
        with open(os.path.join(base, "more.ndb"), "w") as db:
            db.write("Milldam.Test.More:0:*:" + b"more-to-find".hex() + "\n")
        for i in range(3):
            f.proc.send_signal(signal.SIGHUP)
            n = i + 2
            same(wait_for(
                lambda: f.log().count("database loaded") >= n, 20), True)
            time.sleep(0.2)
        stop.set()
        for t in threads:
            t.join()
        for r in results:
            refused(r)
        same(len(results) > 10, True)
        has(f.scan(HEADER, with_attachment(b"more-to-find")).text,
            "Milldam.Test.More")
        same(wait_for(lambda: len(scanners(f)) == 2, 10), True)
        # A database that cannot be loaded leaves the old one in use.
        with open(os.path.join(base, "more.ndb"), "w") as db:
            db.write("nonsense\n")
        f.proc.send_signal(signal.SIGHUP)
        same(wait_for(lambda: "Malformed" in f.log(), 20), True)
        has(f.scan(HEADER, with_attachment(b"more-to-find")).text,
            "Milldam.Test.More")


def limits_size():
    """virus: a message over max-size is 451, 552 or passed as configured"""
    body = b"x" * 70 + b"\r\n"
    body *= 20000
    for word, code in (("tempfail", "451"), ("reject", "552")):
        with virus(f'oversize = "{word}"\n') as f:
            r = f.scan(HEADER, body)
            same(r.code in (b"y", b"t", b"r"), True)
            if r.code == b"y":
                same(r.text[:3], code)
            refused(f.scan(HEADER, with_attachment(EICAR)))
    with virus('oversize = "pass"\n') as f:
        passed(f.scan(HEADER, body))
        has(f.log(), "over max-size")


def limits_depth():
    """virus: content over libclamav's limits is not called clean"""
    big = zipped(b"\0" * (3 << 20))
    more = "max-scansize = 2M\n"
    with virus(more) as f:
        deferred(f.scan(HEADER, with_attachment(big)))
    with virus(more + 'over-limits = "reject"\n') as f:
        same(f.scan(HEADER, with_attachment(big)).text[:3], "554")
    with virus(more + 'over-limits = "pass"\n') as f:
        passed(f.scan(HEADER, with_attachment(big)))


def refuses_to_start():
    """virus: without a database it says so and does not start"""
    f = virus(settings='databases = "/nonexistent/db"\n')
    status, text = f.check()
    same(status, 78)
    has(text, "filter.conf:1:")
    has(text, "/nonexistent/db")
    os.mkdir(os.path.join(f.dir, "empty"))
    f.write('databases = "@DIR@/empty"\ntemp-directory = "@DIR@"\n')
    try:
        f.start()
        raise AssertionError("it started")
    except RuntimeError as e:
        has(str(e), "No supported database files")
    same(f.proc.wait(), 75)
    f.proc = None
    f.__exit__(None)


def leaves_nothing():
    """virus: when main is killed, all processes end and remove their files"""
    f = virus()
    f.start()
    f.scan(HEADER, with_attachment(zipped(EICAR)))
    pids = children(f.proc.pid)
    same(len(pids), 3)
    f.proc.kill()
    f.proc.wait()
    f.proc = None
    same(wait_for(lambda: not any(process_name(p).startswith("virus-")
                                  for p in pids), 10), True)
    same([n for n in os.listdir(f.dir) if n.startswith("milldam-virus")], [])
    f.__exit__(None)


if installed("milldam-rewrite") and not installed("milldam-virus"):
    print("1..1\nok 1 - virus # SKIP built without libclamav")
    sys.exit(0)
sys.exit(run_tests([
    finds, first_field_does_not_matter, marks, quarantines,
    survives_a_killed_scanner, ends_a_hanging_scanner, replaces_the_zygote,
    reloads_under_load, limits_size, limits_depth, refuses_to_start,
    leaves_nothing]))
