# SPDX-License-Identifier: ISC
"""quickstart - a tour of the gateway: real mail in, and what became of it"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gateway import Client, Gateway, TOP, wait_for, without_trace  # noqa: E402
from mails import HEAD, eicar_mail, stranger  # noqa: E402
from sink import Sink  # noqa: E402

FAULT = next((a[8:] for a in sys.argv[1:] if a.startswith("--fault=")), "")
COLOUR = sys.stdout.isatty()

REWRITE = """
header "mark" {
	name = "X-Milldam"  action = "add"  value = "seen"
	in = "Subject"  match = "to be marked"
}
"""


def flip(content):
    """A wire that changes one byte of the last line."""
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def clean(gate, sink):
    content = HEAD % (b"clean", b"a clean message") + \
        b"\r\nHello,\r\n.a line with a dot\r\n\xc3\xa4\r\n"
    reply = Client(gate).send(content)
    msgs = sink.wait(1)
    if not msgs:
        return False, reply, "did not arrive"
    same = without_trace(msgs[-1].content) == content
    return (reply.startswith("250") and same, reply,
            "relayed, identical to the byte" if same
            else "relayed, but CHANGED on the way")


def virus(gate, sink):
    n = len(sink.messages)
    reply = Client(gate).send(eicar_mail())
    return (reply.startswith("550") and len(sink.messages) == n, reply,
            "refused" if reply.startswith("5") else "NOT refused")


def foreign(gate, sink):
    reply = stranger(gate).send(HEAD % (b"foreign", b"relay me") + b"\r\nx\r\n",
                   rcpts=["x@elsewhere.test"])
    return (reply.startswith("550 5.7.1"), reply,
            "refused" if reply.startswith("550") else "NOT refused")


def rewrite(gate, sink):
    n = len(sink.messages)
    reply = Client(gate).send(HEAD % (b"mark", b"to be marked") + b"\r\nx\r\n")
    msgs = sink.wait(n + 1)
    ok = len(msgs) > n and b"\r\nX-Milldam: seen\r\n" in msgs[-1].content
    return (reply.startswith("250") and ok, reply,
            "relayed with X-Milldam added" if ok else "NOT rewritten")


TOUR = [("a clean message", clean), ("the EICAR file, attached", virus),
        ("a stranger to a foreign domain", foreign),
        ("a header rewrite", rewrite)]


def decided_by(gate, reply, log):
    """Who changed the message, else who let it in or refused it."""
    words = reply.split()
    if words[0] == "250":
        record = gate.ctl_json("explain", words[2])[0]
        editors = [m["name"] for m in record["milters"] if m.get("n_edits")]
        return editors[-1] if editors else "access"
    found = re.findall(r" milter=([a-z0-9-]+), reject", log)
    return found[-1] if found else "-"


def main():
    sink = Sink(mutate=flip if FAULT == "byte" else None)
    signatures = os.path.join(TOP, "tests/data/signatures")
    gate = Gateway(
        sink.port, chain=("access", "virus", "rewrite"),
        access="relay-networks = {127.0.0.1, ::1}\n",
        files={"virus.conf": f'databases = "{signatures}"\n'
                             'action = "reject"\n',
               "rewrite.conf": REWRITE},
        milters='milter "virus" { run = "milldam-virus" '
                'settings = "virus.conf" }\n'
                'milter "rewrite" { run = "milldam-rewrite" '
                'settings = "rewrite.conf" }\n')
    bad = 0
    try:
        gate.start()
        if FAULT == "virus":
            gate.ctl("milter", "virus", "off")
        print(f"\nMilldam listens on 127.0.0.1:{gate.port}; "
              f"the next hop is a sink on port {sink.port}\n")
        print(f"  {'message':<32} {'outcome':<32} {'decided by':<10} reply")
        for what, fn in TOUR:
            before = len(gate.log_text())
            ok, reply, outcome = fn(gate, sink)
            wait_for(lambda: " milter=" in gate.log_text()[before:], 3)
            who = decided_by(gate, reply, gate.log_text()[before:])
            bad += not ok
            mark = "ok " if ok else "BAD"
            if COLOUR:
                mark = f"\033[{'32' if ok else '31'}m{mark}\033[0m"
            print(f"{mark} {what:<32} {outcome:<32} {who:<10} "
                  f"{reply.splitlines()[-1]}", flush=True)
        if "--keep" in sys.argv and sys.stdin.isatty():
            input(f"\nmilldamctl -s {gate.dir}/run/control status\n"
                  "Enter ends the gateway. ")
    except Exception:
        sys.stderr.write(gate.log_text()[-3000:])
        raise
    finally:
        gate.remove()
        sink.close()
    print("\nEverything fared as it should." if not bad else
          f"\n{bad} of {len(TOUR)} messages did not fare as they should.")
    return 1 if bad else 0


sys.exit(main())
