# SPDX-License-Identifier: ISC
"""milter_cases - what milters do wrong, and what must become of it

Each case is one fault, with the script of the filter (see badmilter.py), what
the client says and hears, and what must be true afterwards.  The test that
runs them is tests/e2e/milter_faults_test.py; rules are those of docs/milter.md.

talk: commands and the beginning of what is answered ("|": or).  M is MAIL, R
RCPT (its nth recipient is rN@to.test), D DATA, "." the message; "again" QUITs
and comes back, "drop" sends RCPT and goes away, "end" waits for the end of the
connection, "log TEXT" until the milter's log has the text, "pause" half a
second.
"""
from badmilter import (ACCEPT, CONT, DISCARD, PROGRESS, REJECT, SKIP, TEMPFAIL,
                       close, deaf, forever, half, options, packet, reset,
                       slow_reader, torn, u32, wait)

OK = "M 250; R 250; D 354; . 250"
AT_R = "M 250; R 451 4.7.1"
AT_DOT = "M 250; R 250; D 354; . 451 4.7.1"
EITHER = "M 250; R 250|451 4.7.1; D 354|451|503|554; . 250|451 4.7.1"
SHORT = 'timeout = { "connect=3s" "command=3s" "message=6s" }'
LONG = 'timeout = { "connect=10s" "command=10s" "message=20s" }'
cases = []
rule = None


class Case:
    """One fault.  at: the script; talk: what the client sees;
    sink: of each message answered 250 "same", "drop", "held REASON" or what
      becomes of the content; rcpts, sender: who is left;
    log: what the milter's log lines hold, None for no line;
    failures: failures counted, None for any; counts: other counters;
    conf: options of the milter; conns: how many connections it got, seen and
      unseen: commands that it got or did not; second: the script of another
      milter behind it; also: of another endpoint of it, others: how many
      connections that got; rules: of the policy, held: recipients for whom it
      is held; body: bytes of the message; sessions: at one time"""

    def __init__(self, name, at, talk=OK, sink="same", *, rcpts=None,
                 sender=None, log=None, failures=None, counts=None, conf="",
                 short=False, via="inet", conns=None, seen="", unseen="",
                 second=None, body=b"line\r\n", twin=True, sessions=1,
                 authoriser=False, also=None, others=None, rules="",
                 held=None):
        vars(self).update(locals())
        self.rule = rule
        if failures is None and log is None:
            self.failures = 0


def case(*args, **more):
    cases.append(Case(*args, **more))


def field(name, value, code=b"h", index=None):
    at = b"" if index is None else u32(index)
    return packet(code, at + name + b"\0" + value + b"\0")


def at_end(*what, **more):
    """Edits at the end of message, then "continue"."""
    return dict({"E": [*what, CONT]}, **more)


def reply(text, nul=b"\0"):
    return packet(b"y", text + nul)


def append(line):
    return lambda c: c.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n", 1)


def body(text):
    return lambda c: c[:c.index(b"\r\n\r\n") + 4] + text


# ---- frames
rule = 1
for what, n in (("0", 0), ("of 1 MiB and one", (1 << 20) + 1),
                ("of 2 GiB", 0x80000000), ("of 4 GiB", 0xffffffff)):
    case(f"a packet says length {what}", {"E": u32(n) + b"c"}, AT_DOT,
         log="bad packet", failures=1)
case("a reply comes byte by byte",
     {"O": torn(options()), "R": torn(CONT),
      "E": torn(field(b"X-New", b"v") + CONT)}, sink=append(b"X-New: v"))
case("half a packet, then the end", {"E": [CONT[:3], close]}, AT_DOT,
     log="closed the connection", failures=1)
case("half a packet, then silence", {"E": CONT[:4]}, AT_DOT, short=True,
     log="no answer to E", failures=1)
case("a reply that comes too slowly", {"R": torn(CONT, 1.0)}, AT_R,
     short=True, log="no answer to R", failures=1)
case("noise", {"R": bytes(range(7, 250)) * 20}, AT_R, log="bad packet",
     failures=1)
case("the largest packet there is",
     at_end(packet(b"b", b"x" * ((1 << 20) - 3) + b"\r\n")),
     sink=body(b"x" * ((1 << 20) - 3) + b"\r\n"))

# ---- negotiation
rule = 5
for n in (0, 1, 7, 0xffffffff):
    case(f"version {n}", {"O": options(version=n)}, AT_R,
         log="version not spoken", failures=1)
case("version 2 is not sent what it does not know",
     {"O": options(version=2, actions=0x3f)},
     talk="M 250; R 250; RSET 250; XYZZY 500; M 250; R 250; D 354; . 250",
     seen="M2 E1", unseen="T U")
rule = 6
for n in (0x200, 0xffffffff):
    case(f"actions {n:#x}", {"O": options(actions=n)}, AT_R,
         log="not offered", failures=1)
case("protocol bits that nobody offered", {"O": options(protocol=0xffe00000)},
     seen="C1 H1 M1 R1 T1 L1 N1 B1 E1")
rule = "3, negotiation"
for what, data in (
        ("11 bytes", options()[5:-1]), ("nothing in it", b""),
        ("bytes behind it", options()[5:] + b"\0\0\1"),
        ("a macro list without NUL", options(lists=u32(2) + b"i")[5:]),
        ("a list cut off in its stage", options(lists=b"\0\0")[5:]),
        ("70000 bytes without NUL", options(lists=u32(2) + b"i" * 70000)[5:])):
    case(f"the offer is answered with {what}", {"O": packet(b"O", data)},
         AT_R, log="negotiate: malformed", failures=1)
for what, data in (("continue", CONT), ("reject", REJECT),
                   ("progress", PROGRESS), ("a change", field(b"X", b"v"))):
    case(f"the offer is answered with {what}", {"O": data}, AT_R,
         log="negotiate: malformed", failures=1)
case("the offer is answered twice", {"O": options() * 2}, AT_R,
     log="nobody asked for", failures=1)
case("a verdict comes with the answer to the offer",
     {"O": options() + CONT}, AT_R, log="nobody asked for", failures=1)
case("a greeting before the offer", {"accept": b"220 mail.test ESMTP\r\n"},
     AT_R, log="negotiate|bad packet", failures=1)
case("silence instead of an answer to the offer", {"O": b""}, AT_R,
     short=True, log="negotiate: .*out of time", failures=1)
case("the offer is answered too late", {"O": [wait(5), options()]}, AT_R,
     short=True, log="negotiate: .*out of time", failures=1)
case("the offer is answered late, but in time", {"O": [wait(0.5), options()]})
case("macros for a stage that is not there",
     {"O": options(lists=u32(7) + b"i\0" + u32(0xffffffff) + b"j\0")})
case("60 macros for one stage",
     {"O": options(lists=u32(2) + b" ".join(
         b"{m%d}" % n for n in range(59)) + b" i\0")})
case("a list of 60000 bytes", {"O": options(lists=u32(0) + b"j " * 30000 +
                                            b"\0")})
case("macros named by control characters and formats",
     {"O": options(lists=u32(2) + b"i\r\nQUIT %s%n {%x} { } {} }{\0" +
                   u32(2) + b"\0")})

# ---- connections
rule = 3
case("nobody listens", None, AT_R, twin=False, sessions=20,
     log="connect: .*refused", failures=20)
case("nobody is behind the unix socket", None, AT_R, twin=False, via="unix",
     sessions=20, log="connect: ", failures=20)
case("it accepts nobody", {"never": b""}, AT_R, twin=False, short=True,
     log="out of time", failures=1)
case("it accepts nobody, on a unix socket", {"never": b""}, AT_R, twin=False,
     via="unix", short=True, sessions=4, log="out of time", failures=4)
case("it closes every connection at once", {"accept": close}, AT_R,
     sessions=20, log="negotiate: .*(closed|reset)", failures=20)
case("it resets every connection at once", {"accept": reset}, AT_R,
     sessions=20, log="negotiate|connect", failures=20)
for step in "OCHMR":
    case(f"it dies at {step}", {step: close}, AT_R, failures=1,
         log="closed the connection|reset by peer|Broken pipe")
for step in "TLNBE":
    case(f"it dies at {step}", {step: close}, AT_DOT, failures=1,
         log="closed the connection|reset by peer|Broken pipe")
for step in "OME":
    case(f"it resets at {step}", {step: reset},
         AT_DOT if step == "E" else AT_R, failures=1,
         log="closed the connection|reset by peer|Broken pipe")
case("it dies after the answer to RCPT", {"R": [CONT, close]},
     "M 250; R 250; log closed the connection; D 451 4.7.1",
     log="closed the connection|reset by peer", failures=1)
case("it dies after its verdict", {"E": [CONT, close]}, f"{OK}; RSET 250",
     seen="E1")
case("half-open after the answer to RCPT", {"R": [CONT, half]},
     "M 250; R 250; log closed the connection; D 451 4.7.1",
     log="closed the connection", failures=1)
case("half-open after its verdict", {"E": [CONT, half]})
case("half-open at the offer", {"O": half}, AT_R,
     log="negotiate: .*closed", failures=1)
case("it dies for one message and is back for the next", {"R1": close},
     "M 250; R 451 4.7.1; RSET 250; M 250; R 451 4.7.1", conns=2, failures=2,
     log="closed the connection|reset by peer|Broken pipe")
case("it reads nothing of a large body", {"R": [CONT, deaf]}, AT_DOT,
     short=True, body=b"a large body\r\n" * 500000, log="no answer to T",
     failures=1)
case("it reads nothing of the offer", {"accept": deaf}, AT_R, short=True,
     log="negotiate: .*out of time", failures=1)
case("it reads a large body too slowly",
     {"R": [CONT, slow_reader(65536, 0.3)]}, AT_DOT, short=True, body=b"a large body\r\n" * 500000,
     log="out of time", failures=1)
case("it reads slowly, but in time", {"R": [CONT, slow_reader(65536, 0.01)]},
     body=b"a large body\r\n" * 80000)

# ---- silence
rule = 24
for step in "CHMR":
    case(f"silence at {step}", {step: b""}, AT_R, short=True, failures=1,
         log="no answer to ")
for step in "TLNBE":
    case(f"silence at {step}", {step: b""}, AT_DOT, short=True, failures=1,
         log="no answer to ")
case("silence after the changes", {"E": field(b"X-New", b"v")}, AT_DOT,
     short=True, log="no answer to E", failures=1)
case("silence in a connection that is used again", {"C2": b""},
     f"{OK}; again; M 250; R 451 4.7.1", conf="library = libmilter",
     short=True, log="no answer to R", failures=1)

# ---- answers
rule = 13
case("two verdicts", {"E": CONT * 2}, AT_DOT, log="nobody asked for",
     failures=1)
case("accept, then reject", {"E": ACCEPT + REJECT}, AT_DOT,
     log="nobody asked for", failures=1)
case("a change after the verdict", {"E": CONT + field(b"X-New", b"v")}, AT_DOT,
     log="nobody asked for|before the end", failures=1)
case("two answers to RCPT", {"R": CONT * 2}, AT_R, log="nobody asked for",
     failures=1)
case("two answers to CONNECT, asked early", {"C": CONT * 2},
     "connect 421 4.7.1; end", conf="early = yes", log="nobody asked for",
     failures=1)
case("answers ahead of the commands", {"R": CONT * 9}, AT_R,
     log="nobody asked for", failures=1)
case("answers to macros", {"D": CONT}, EITHER, log="nobody asked for")
case("an answer to ABORT", {"A": CONT},
     "M 250; R 250; RSET 250; M 250; R 250|451 4.7.1; D 354|451|503|554; "
     ". 250|451 4.7.1; RSET 250; log nobody asked for", log="nobody asked for")
case("an answer to QUIT", {"Q": CONT * 3}, f"{OK}; again; {OK}", conns=2)
case("an answer to QUIT_NC", {"K": CONT},
     f"{OK}; again; pause; pause; pause; {OK}", conf="library = libmilter")
for step, bit in (("H", 0x2000), ("R", 0x8000)):
    case(f"an answer to {step} that it would not give",
         {"O": options(protocol=bit)}, EITHER + "; RSET 250; "
         "log nobody asked for", log="nobody asked for")
case("answers to header fields that it would not give",
     {"O": options(protocol=0x80), **{s: b"" for s in "TLNB"},
      "E": CONT * 9}, AT_DOT, conf="pipeline = full", log="nobody asked for",
     failures=1)
case("what it said in vain does not reach another session",
     {"1/R": [wait(0.5), REJECT]}, f"M 250; drop; {OK}",
     conf="library = libmilter", conns=2)

# ---- progress
rule = 14
case("progress at every command", {s: [PROGRESS * 3, CONT] for s in
                                   "CHMRTLNBE"})
case("progress until it has an answer",
     {"R": [wait(1.2), PROGRESS, wait(1.2), PROGRESS, wait(1.2), CONT]},
     short=True)
case("progress for ever at RCPT", {"R": forever(PROGRESS, 0.05)}, AT_R,
     short=True, log="out of time for the message", failures=1)
case("progress for ever at the end", {"E": forever(PROGRESS, 0.05)}, AT_DOT,
     short=True, log="out of time for the message", failures=1)
case("progress as fast as it can", {"E": forever(PROGRESS * 20000)}, AT_DOT,
     log="progress without end", failures=1)
case("progress that nobody waits for",
     {"R": [CONT, PROGRESS * 500], "E": [CONT, PROGRESS * 500]},
     f"{OK}; RSET 250; M 250; R 250; D 354; . 250")
case("progress for ever that nobody waits for",
     {"R": [CONT, wait(0.3), forever(PROGRESS * 20000)]},
     "M 250; R 250; log progress without end; D 451 4.7.1",
     log="progress without end", failures=1)
case("progress with something in it", {"E": [packet(b"p", b"x"), CONT]},
     AT_DOT, log="unexpected reply 0x70", failures=1)

# ---- lies
rule = 15
for what, data in (
        ("unknown", packet(b"?")), ("NUL", packet(b"\0")),
        ("an offer", options()), ("connection failed", packet(b"f")),
        ("a list of macros", packet(b"l", u32(2) + b"i\0")),
        ("continue with bytes", packet(b"c", b"x")),
        ("reject with 70000 bytes", packet(b"r", b"x" * 70000)),
        ("shutdown with bytes", packet(b"4", b"x"))):
    case(f"a reply: {what}", {"R": data}, AT_R, log="unexpected reply",
         failures=1)
case("a liar is not asked again", {"R": packet(b"?")},
     "M 250; R 451 4.7.1; RSET 250; M 250; R 451 4.7.1", conns=1, seen="R1",
     unseen="M2 R2", log="unexpected reply", failures=1)
for step in "CHMTNE":
    case(f"skip at {step}", {step: SKIP}, AT_DOT if step in "TNE" else AT_R,
         log="unexpected reply 0x73", failures=1)
case("skip with bytes", {"B": packet(b"s", b"x")}, AT_DOT,
     log="unexpected reply 0x73", failures=1)
case("skip of a body that is not negotiated", {"B1": SKIP},
     body=b"a large body\r\n" * 18000)
case("skip of recipients that is not negotiated", {"R1": SKIP},
     "M 250; R 250; R 250; D 354; . 250", seen="R1", unseen="R2",
     rcpts=["r1@to.test", "r2@to.test"])

# ---- verdicts
rule = 19
case("discard at CONNECT and HELO is nothing", {"C": DISCARD, "H": DISCARD},
     seen="E1")
case("discard of the message", {"E": DISCARD}, sink="drop",
     counts={"discards": 1})
case("one of three recipients for later", {"R2": TEMPFAIL},
     "M 250; R 250; R 451 4.7.1; R 250; D 354; . 250",
     rcpts=["r1@to.test", "r3@to.test"], counts={"tempfails": 1})
case("shutdown at RCPT", {"R": packet(b"4")}, "M 250; R 421 4.7.0; end",
     counts={"shutdowns": 1})
case("shutdown at the end", {"E": packet(b"4")},
     "M 250; R 250; D 354; . 421 4.7.0; end", counts={"shutdowns": 1})
case("accept at CONNECT, then bytes", {"C": [ACCEPT, b"more"]}, OK,
     unseen="T L E")
rule = 18
case("accept amid what was sent ahead, and answers to the rest",
     {"L1": ACCEPT}, seen="L1", unseen="M2")

# ---- custom replies
rule = 16
for what, text in (
        ("without a code", b"what"), ("with nothing in it", b""),
        ("of two digits", b"55"), ("250", b"250 fine"), ("354", b"354 go"),
        ("600", b"600 no"), ("of two codes", b"550-a\r\n250 b"),
        ("with a lone dot", b"550-a\r\n.\r\n550 b"),
        ("with a bare CR", b"550 a\r550 b"),
        ("with a bare LF", b"550 a\n250 b"), ("with NUL", b"550 a\0 b"),
        ("that ends in bare CR", b"550 a\r"),
        ("of another class", b"550 4.7.1 x"),
        ("of 981 bytes", b"550 5.7.1 " + b"x" * 971),
        ("of 33 lines", b"550-x\r\n" * 32 + b"550 x"),
        ("of 70000 bytes", b"550 " + b"x" * 70000)):
    case(f"a reply text {what}", {"R": reply(text)}, AT_R,
         log="unexpected reply 0x79", failures=1)
case("a reply text with formats", {"R": reply(b"550 5.7.1 100%% %s%n%")},
     "M 250; R 550 5.7.1 100% sn", counts={"rejects": 1})
case("a reply text with controls and 8 bit",
     {"R": reply(b"550 5.7.1 a\x1b[2Jb\x07\xffc\tx")},
     "M 250; R 550 5.7.1 a?[2Jb??c x", counts={"rejects": 1})
case("a reply text without NUL", {"R": reply(b"550 5.7.1 no", b"")},
     "M 250; R 550 5.7.1 no", counts={"rejects": 1})
case("a reply text that ends in CRLF", {"R": reply(b"550 5.7.1 no\r\n")},
     "M 250; R 550 5.7.1 no", counts={"rejects": 1})
case("a reply text of 32 lines of 980 bytes",
     {"E": reply(b"\r\n".join(b"550%c5.7.1 %s" % (
         b" -"[n < 31], b"x" * 970) for n in range(32)))},
     "M 250; R 250; D 354; . 550-5.7.1 xxx", counts={"rejects": 1})
case("a reply 421", {"R": reply(b"421 4.3.0 off")},
     "M 250; R 421 4.3.0 off; end")
case("a reply 421 in two lines at the end",
     {"E": reply(b"421-4.3.0 a\r\n421 4.3.0 b")},
     "M 250; R 250; D 354; . 421-4.3.0 a; end")

# ---- changes where or by whom they may not be
rule = 21
for step in "CMR":
    case(f"a change at {step}", {step: [field(b"X-New", b"v"), CONT]}, AT_R,
         log="before the end of message", failures=1)
for step in "TLNB":
    case(f"a change at {step}", {step: [field(b"X-New", b"v"), CONT]}, AT_DOT,
         log="before the end of message", failures=1)
case("quarantine at RCPT", {"R": [packet(b"q", b"odd\0"), CONT]}, AT_R,
     log="before the end of message", failures=1)
case("it dies between two packets of a body",
     {"E": [packet(b"b", b"half of it\r\n"), wait(0.1), close]}, AT_DOT,
     log="closed the connection|reset", failures=1)
case("it dies between two packets of a body, and may fail",
     {"E": [packet(b"b", b"half\r\n") + field(b"X-New", b"v") +
            packet(b"-", b"r1@to.test\0"), wait(0.1), close]},
     conf="on-failure = accept", log="closed the connection|reset", failures=1,
     counts={"fail_opens": 1})
case("changes, then reject", {"E": [field(b"X-New", b"v"), REJECT]},
     "M 250; R 250; D 354; . 550 5.7.1", counts={"rejects": 1})
case("changes, then a lie, and it may fail",
     {"E": [packet(b"b", b"gone\r\n"), field(b"X-New", b"v"), packet(b"?")]},
     conf="on-failure = accept", log="unexpected reply", failures=1,
     counts={"fail_opens": 1})
case("changes, then accept amid the header",
     {"E": [field(b"X-New", b"v"), CONT], "L2": ACCEPT})
rule = 6
for code, data in ((b"h", b"X-New\0v\0"), (b"m", u32(1) + b"X-Dup\0\0"),
                   (b"b", b"new\r\n"), (b"-", b"r1@to.test\0"),
                   (b"e", b"<x@from.test>\0"), (b"q", b"odd\0")):
    case(f"change {code.decode()} is not negotiated",
         at_end(packet(code, data), O=options(actions=0x100)), AT_DOT,
         log="was not negotiated", failures=1)
rule = "may"
case("a recipient is added without leave",
     at_end(packet(b"+", b"<new@to.test>\0")), AT_DOT, log="not in its may",
     failures=1)
case("a recipient is added without leave, and dropped",
     at_end(packet(b"+", b"<new@to.test>\0"), field(b"X-New", b"v"),
            packet(b"2", b"<new@to.test>\0NOTIFY=NEVER\0")),
     conf="forbidden = drop", log="dropped change",
     failures=0, counts={"dropped_edits": 2}, sink=append(b"X-New: v"),
     rcpts=["r1@to.test"])
case("changes without leave for ever, dropped",
     {"E": forever(packet(b"+", b"<new@to.test>\0") * 100)}, AT_DOT,
     conf="forbidden = drop", log="not in its may", failures=1)

# ---- changes of header fields
rule = 22
case("insert at 4 billion",
     at_end(field(b"X-New", b"v", b"i", 0xffffffff)), sink=append(b"X-New: v"))
case("change the last of 4 billion",
     at_end(field(b"X-Dup", b"v", b"m", 0xffffffff)), sink=append(b"X-Dup: v"))
case("delete the last of 2 billion",
     at_end(field(b"X-Dup", b"", b"m", 0x80000000)))
case("change number 0", at_end(field(b"X-Dup", b"v", b"m", 0)),
     sink=lambda c: c.replace(b"X-Dup: 1", b"X-Dup: v"))
case("change our own Received", at_end(field(b"Received", b"", b"m", 1),
                                       field(b"received", b"", b"m", 2)))
rule = 9
for what, data in (
        ("without a value", b"X-New\0"), ("without NUL", b"X-New\0v"),
        ("with more behind it", b"X-New\0v\0w\0"),
        ("with NUL in its value", b"X-New\0v\0w\0"),
        ("without a name", b"\0v\0"), ("with nothing", b"")):
    case(f"a header field {what}", at_end(packet(b"h", data)), AT_DOT,
         log="malformed change", failures=1)
for what, name in (("a colon", b"X:New"), ("a blank", b"X New"),
                   ("a line end", b"X\r\nBcc: a@b"), ("8 bit", b"X-\xe4"),
                   ("999 bytes", b"X" * 999)):
    case(f"a header name with {what}", at_end(field(name, b"v")), AT_DOT,
         log="change 'h'", failures=1)
for what, value in (("a line end", b"a\r\nBcc: x@to.test"),
                    ("a bare LF", b"a\nBcc: x@to.test"),
                    ("an end of header", b"a\r\n\r\nbody"),
                    ("a bare CR", b"a\rb"), ("a fold of nothing", b"a\n\n b"),
                    ("65000 bytes", b"a" * 65000)):
    case(f"a header value with {what}", at_end(field(b"X-New", value)), AT_DOT,
         log="change 'h'", failures=1)
case("a changed value with a line end",
     at_end(field(b"Subject", b"a\r\nBcc: x@to.test", b"m", 1)), AT_DOT,
     log="change 'm'", failures=1)
case("a value that ends in line ends", at_end(field(b"X-New", b"v\r\n\r\n")),
     sink=append(b"X-New: v"))
case("an index cut off", at_end(packet(b"i", b"\0\0")), AT_DOT,
     log="malformed change", failures=1)
rule = "limits"
case("header fields for ever",
     {"E": forever(field(b"X-New", b"v") * 100)}, AT_DOT,
     log="more than is allowed", failures=1)
case("large header fields for ever",
     {"E": forever(field(b"X-New", b"v" * 60000))}, AT_DOT,
     log="more than is allowed", failures=1)
case("deletions for ever",
     {"E": forever(packet(b"-", b"nobody@to.test\0") * 100)}, AT_DOT,
     log="more than is allowed", failures=1)

# ---- changes of the envelope
rule = 10
RCPT = 'may = { "all" }'
for what, addr in (
        ("nothing", b""), ("a blank", b"a b@to.test"),
        ("a line end", b"a@to.test\r\nRCPT TO:<b@to.test>"),
        ("one bracket", b"<a@to.test"), ("brackets inside", b"a@to<x>.test"),
        ("1100 bytes", b"a" * 1090 + b"@to.test"),
        ("no domain", b"a"), ("two domains", b"a@b@to.test"),
        ("noise", b"\xff\xfe@to.test"), ("an empty domain", b"a@"),
        ("a list", b"a@to.test,b@to.test")):
    case(f"a recipient is added with {what}",
         at_end(packet(b"+", addr + b"\0")), AT_DOT, conf=RCPT,
         log="change '[+]'", failures=1)
case("a recipient's arguments have a line end",
     at_end(packet(b"2", b"<a@to.test>\0NOTIFY=NEVER\r\nRCPT TO:<b>\0")),
     AT_DOT, conf=RCPT, log="change '2'", failures=1)
case("a recipient has two strings of arguments",
     at_end(packet(b"2", b"<a@to.test>\0NOTIFY=NEVER\0ORCPT=x\0")), AT_DOT,
     conf=RCPT, log="malformed change '2'", failures=1)
case("a recipient's arguments mean nothing",
     at_end(packet(b"2", b"<new@to.test>\0  FOO=bar = NOTIFY= =NEVER ORCPT=" +
                   b"x" * 600 + b"\0")), conf=RCPT,
     rcpts=["new@to.test", "r1@to.test"])
case("a recipient is added a thousand times",
     at_end(*[packet(b"+", b"<new@to.test>\0")] * 1000), conf=RCPT,
     rcpts=["new@to.test", "r1@to.test"])
case("more recipients than an envelope holds",
     at_end(b"".join(packet(b"+", b"<%0240d@to.test>\0" % n)
                     for n in range(3000))), AT_DOT, conf=RCPT,
     log="changes: ", failures=1)
case("somebody else's recipient is deleted",
     at_end(packet(b"-", b"<r9@to.test>\0"), packet(b"-", b"r1@other.test\0")),
     rcpts=["r1@to.test"])
case("all recipients are deleted", at_end(packet(b"-", b"<r1@to.test>\0")),
     sink="drop")
for what, addr in (("a line end", b"<a@b.test>\r\nX"), ("a blank", b"a b@c"),
                   ("1100 bytes", b"a" * 1100), ("noise", b"\xff@from.test"),
                   ("no domain", b"root")):
    case(f"a sender with {what}", at_end(packet(b"e", addr + b"\0")), AT_DOT,
         log="change 'e'", failures=1)
case("the null sender with odd arguments",
     at_end(packet(b"e", b"<>\0SIZE=99999999 RET= ENVID= BODY=x\0")),
     sender="")

# ---- changes of the body
rule = 23
case("pieces of a body among other changes",
     at_end(packet(b"b", b"one\r"), field(b"X-New", b"v"), packet(b"b"),
            packet(b"b", b"\ntwo"), packet(b"-", b"nobody@to.test\0"),
            packet(b"b", b"\n.three")),
     sink=lambda c: append(b"X-New: v")(body(b"one\r\ntwo\r\n.three\r\n")(c)))
case("an empty body", at_end(packet(b"b")), sink=body(b""))
case("a body of bare CR and LF", at_end(packet(b"b", b"\r.\r\n.\n\r\r")),
     sink=body(b"\r\n.\r\n.\r\n\r\n\r\n"))
case("a body that looks like the end of DATA",
     at_end(packet(b"b", b"a\r\n"), packet(b"b", b".\r"),
            packet(b"b", b"\nMAIL FROM:<x@from.test>\r\n")),
     sink=body(b"a\r\n.\r\nMAIL FROM:<x@from.test>\r\n"))
case("a body in pieces of one byte",
     at_end(packet(b"b", b"x") * 3000 + packet(b"b", b"\r\n")),
     sink=body(b"x" * 3000 + b"\r\n"))
case("a body with NUL", at_end(packet(b"b", b"a\0b\r\n")),
     sink=body(b"a\0b\r\n"))
case("a body without end", {"E": forever(packet(b"b", b"y" * 65534 + b"\n"))},
     AT_DOT, log="more than is allowed", failures=1)
case("pieces of one byte for ever",
     {"E": forever(packet(b"b", b"x") * 20000)}, AT_DOT, short=True,
     conf='timeout = { "message=1s" }', log="out of time for the message",
     failures=1)
case("empty pieces of a body for ever",
     {"E": forever(packet(b"b") * 20000)}, AT_DOT,
     log="without end", failures=1)

# ---- quarantine
rule = "quarantine"
case("quarantine", at_end(packet(b"q", b"odd: 7.5\0")), sink="held odd: 7.5",
     counts={"quarantines": 1})
case("quarantine for nothing", at_end(packet(b"q", b"\0")), sink="held $",
     counts={"quarantines": 1})
case("a reason of 60000 bytes", at_end(packet(b"q", b"r" * 60000 + b"\0")),
     sink="held r{100,500}$", counts={"quarantines": 1})
case("a reason in 8 bit and formats",
     at_end(packet(b"q", b"\xff\xfe%s%n {\"\\\0")), sink="held .+%s%n",
     counts={"quarantines": 1})
case("a thousand reasons",
     at_end(*[packet(b"q", b"reason %d\0" % n) for n in range(1000)]),
     sink="held reason 0$")
for what, data in (("a line end", b"a\r\nX: y\0"), ("NUL", b"a\0b\0")):
    case(f"a reason with {what}", at_end(packet(b"q", data)), AT_DOT,
         log="change 'q'", failures=1)
case("a reason without NUL", at_end(packet(b"q", b"odd")), AT_DOT,
     log="malformed change 'q'", failures=1)
case("quarantine, then reject", {"E": [packet(b"q", b"odd\0"), REJECT]},
     "M 250; R 250; D 354; . 550 5.7.1")
case("quarantine, then it dies", {"E": [packet(b"q", b"odd\0"), close]},
     AT_DOT, log="closed|reset", failures=1)
case("quarantine, then the next one rejects",
     at_end(packet(b"q", b"odd\0")), "M 250; R 250; D 354; . 550 5.7.1",
     second={"E": REJECT})

# ---- several milters
rule = 20
case("the next one sees nothing of a failed one",
     {"E": [packet(b"b", b"gone\r\n") + field(b"X-Dup", b"", b"m", 1), close]},
     conf="on-failure = accept", second=at_end(field(b"X-New", b"v")),
     sink=append(b"X-New: v"), log="closed|reset", failures=1,
     counts={"fail_opens": 1})
case("two change the same field", at_end(field(b"X-Dup", b"", b"m", 1)),
     second=at_end(field(b"X-Dup", b"v", b"m", 1)),
     sink=lambda c: c.replace(b"X-Dup: 1\r\n", b"").replace(
         b"X-Dup: 2", b"X-Dup: v"))
case("the first changes, the next one lies",
     at_end(field(b"X-New", b"v")), AT_DOT, second={"E": packet(b"?")})
case("the first is silent, the next one has refused",
     {"O": options(actions=0), "E": b""}, AT_DOT, short=True,
     second={"O": options(actions=0), "E": REJECT}, log="no answer to E",
     failures=1)
rule = "shadow"
case("a lie in shadow", {"R": packet(b"?")}, conf="mode = shadow",
     log="unexpected reply", failures=1, counts={"fail_opens": 0})
case("changes in shadow", at_end(packet(b"b", b"gone\r\n"),
                                 field(b"X-New", b"v"),
                                 packet(b"q", b"odd\0")), conf="mode = shadow")
case("changes and reject in shadow",
     {"E": [packet(b"b", b"gone\r\n"), packet(b"q", b"odd\0"), REJECT]},
     conf="mode = shadow")

# ---- failures
rule = 25
for action, talk, sink in (
        ("accept", OK, "same"), ("reject", "M 250; R 550 5.7.1", None),
        ("quarantine", OK, "held milter .* failed: unexpected reply"),
        ("shutdown", "M 250; R 421 4.7.0; end", None)):
    case(f"a lie at RCPT, on failure {action}", {"R": packet(b"?")}, talk,
         sink, conf=f"on-failure = {action}", log="unexpected reply",
         failures=1, counts={"fail_opens": int(action == "accept")})
for action, talk, sink in (
        ("accept", OK, "same"),
        ("reject", "M 250; R 250; D 354; . 550 5.7.1", None),
        ("quarantine", OK, "held milter .* failed: "),
        ("shutdown", "M 250; R 250; D 354; . 421 4.7.0; end", None)):
    case(f"it dies amid its changes, on failure {action}",
         {"E": [field(b"X-New", b"v"), wait(0.1), close]}, talk, sink,
         conf=f"on-failure = {action}", log="closed|reset", failures=1,
         counts={"fail_opens": int(action == "accept")})

# ---- connections that serve further sessions
rule = 3
REUSE = "library = libmilter"
case("it dies when it is used again", {"C2": close}, f"{OK}; again; {OK}",
     conf=REUSE, conns=2)
case("it lies when it is used again", {"C2": packet(b"?")},
     f"{OK}; again; M 250; R 451 4.7.1", conf=REUSE, log="unexpected reply",
     failures=1)
case("it answers the offer again when it is used again", {"C2": options()},
     f"{OK}; again; M 250; R 451 4.7.1", conf=REUSE, log="unexpected reply",
     failures=1)
case("it talks while nobody uses it", {"E1": [CONT, wait(0.7), CONT]},
     f"{OK}; again; pause; pause; {OK}", conf=REUSE, conns=2)
case("a verdict that comes late does not reach another session",
     {"1/R": [CONT, wait(0.4), REJECT]},
     f"M 250; R 250; again; pause; pause; {OK}", conf="library = milldam",
     conns=2)
case("no other session gets a connection with a message open", {},
     f"M 250; R 250; again; {OK}", conf=REUSE, conns=2)

# ---- the authoriser
rule = "authorisation"
for what, at in (("negotiates no RCPT", {"O": options(protocol=0x08)}),
                 ("answers no RCPT", {"O": options(protocol=0x8000),
                                      "R": b""}),
                 ("skips RCPT", {"R": SKIP})):
    case(f"an authoriser {what}", at, "M 250; R 451", authoriser=True)
case("an authoriser lies", {"R": packet(b"?")}, AT_R, authoriser=True,
     log="unexpected reply", failures=1)
case("an authoriser dies after its yes", {"R": [CONT, close]},
     "M 250; R 250; log closed the connection; D 451 4.7.1",
     authoriser=True, log="closed|reset", failures=1)
case("a yes of the last message", {"R2": SKIP},
     "M 250; R 250; RSET 250; M 250; R 451", authoriser=True)

# ---- several endpoints
rule = "endpoint groups"
LOST = "(closed the connection|reset by peer|Broken pipe).*; next endpoint="
CALM = "eject-after = 100 health-interval = 0s"
case("it dies amid its changes, another endpoint makes them",
     {"E": [packet(b"b", b"half\r\n") + field(b"X-Half", b"v"), close]},
     also=at_end(field(b"X-New", b"v")), sink=append(b"X-New: v"), conf=CALM,
     log=LOST, failures=0, counts={"replays": 1, "fail_opens": 0})
case("it would hold the message and dies, another endpoint would not",
     {"E": [packet(b"q", b"odd\0"), close]}, also={}, conf=CALM, log=LOST,
     failures=0, counts={"replays": 1, "quarantines": 0})
case("it is silent at the end, another endpoint is not", {"E": b""},
     short=True, also=at_end(field(b"X-New", b"v")), sink=append(b"X-New: v"),
     conf=CALM, log="no answer to E.*; next endpoint=", failures=0,
     counts={"replays": 1})
case("both endpoints die amid their changes",
     {"E": [field(b"X-New", b"v"), close]}, AT_DOT, conf=CALM,
     also={"E": [packet(b"b", b"half\r\n"), close]}, log=LOST, failures=1,
     counts={"replays": 1})
case("another endpoint refuses whom the first one took", {"E": close},
     AT_DOT, also={"R": REJECT}, conf=CALM,
     log="answers otherwise than the first time", failures=1,
     counts={"replays_unlike": 1, "rejects": 1})
case("another endpoint takes whom the first one refused",
     {"R2": REJECT, "E": close}, "M 250; R 250; R 550; D 354; . 451 4.7.1",
     also={}, conf=CALM, log="answers otherwise than the first time",
     failures=1, counts={"replays_unlike": 1})
case("another endpoint answers the replay twice", {"E": close}, AT_DOT,
     also={"R": CONT * 2}, conf=CALM, log="nobody asked for", failures=1)
case("a lie is not told to another endpoint", {"E": packet(b"?")}, AT_DOT,
     also={}, others=0, conf=CALM, log="unexpected reply", failures=1,
     counts={"replays": 0})
case("a bad negotiation leads to another endpoint", {"O": options(version=9)},
     also=at_end(field(b"X-New", b"v")), sink=append(b"X-New: v"), conf=CALM,
     log="version not spoken.*; next endpoint=", failures=0,
     counts={"failovers": 1})
case("an endpoint that fails twice is left alone", {"R": close},
     "; RSET 250; ".join([AT_R] * 4), twin=False, conns=2, failures=4,
     conf="eject-after = 2 all-ejected = fail eject-time = 1h", log="ejected")
case("what was negotiated beforehand comes with a verdict",
     {"O": options() + CONT}, AT_R, twin=False, conf="warm = 2",
     log="nobody asked for|unexpected reply", failures=1)
case("probes meet a flood", {"O": forever(PROGRESS * 20000)},
     f"pause; pause; pause; {AT_R}", twin=False, conf="health-interval = 1s",
     log="negotiate: malformed", failures=1)
case("somebody else's socket", {}, AT_R, twin=False, via="unix",
     conf='peer = {"nobody"}', log="not in peer", failures=1)
TLS = 'tls = { "ca=DIR/ca.pem" "name=milter.test" }'
for what, at, short in (
        ("words in the clear", {"accept": options()}, False),
        ("nothing", {"accept": deaf}, True),
        ("the end", {"accept": close}, False),
        ("half a record, then nothing",
         {"accept": [b"\x16\x03\x03\x40\0\x02\0", deaf]}, True),
        ("records without end",
         {"accept": forever(b"\x16\x03\x03\0\4\2\0\0\0" * 10000)}, False)):
    case(f"a TLS handshake meets {what}", at, AT_R, twin=False, conf=TLS,
         short=short, log="connect: |negotiate: |tls", failures=1)

# ---- recipients with different chains
rule = "recipient groups"
ONE = 'rule "r2" { recipient = {"r2@*"} skip = {"NAME"} }'
TWO_TALK = "M 250; R 250; R 250; D 354; . 250"
case("one group's milter dies amid its changes",
     {"E": [packet(b"b", b"half\r\n"), packet(b"-", b"<r2@to.test>\0"),
            close]},
     TWO_TALK, rules=ONE, rcpts=["r2@to.test"], held=["r1@to.test"],
     log="closed|reset", failures=1)
case("one group's milter changes and holds nothing of the other",
     at_end(packet(b"-", b"<r2@to.test>\0"), field(b"X-New", b"v"),
            packet(b"b", b"new\r\n"), packet(b"q", b"odd\0")),
     TWO_TALK, rules=ONE, rcpts=["r2@to.test"], held=["r1@to.test"],
     counts={"quarantines": 1})
case("one group's milter sees nobody of the other", {},
     "M 250; R 250; R 250; D 354; . 250", rules=ONE, seen="R1", unseen="R2",
     sink="groups")
