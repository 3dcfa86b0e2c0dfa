#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""seeds.py - write the seed corpora

Run in tests/fuzz after a format has changed; the files are kept in the tree.
Checksums stay zero: spool_fuzz puts them right.
"""
import os
import struct


def write(target, name, data):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                          "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def u8(v): return struct.pack("<B", v)
def u16(v): return struct.pack("<H", v)
def u32(v): return struct.pack("<I", v)
def u64(v): return struct.pack("<Q", v)
def text(s): return u32(len(s)) + s.encode() + b"\0"


def route(mailer=1, host="example.org", port=25, addr="", why=""):
    return u8(mailer) + u16(port) + text(host) + text(addr) + text(why)


def rcpt(addr, orcpt="", notify=0, **kw):
    return text(addr) + text(orcpt) + u8(notify) + route(**kw)


def envelope(id="9Kx2abcdefgh", flags=0, rcpts=(), **kw):
    names = ("sender", "envid", "hold_reason", "hold_by", "client_addr",
             "client_name", "helo", "proto", "tls", "auth_user", "listener",
             "policy", "policy_hash")
    return (u16(1) + text(id) + u64(1700000000000) + u32(flags) + u16(1) +
            u16(1) + u16(25) + b"".join(text(kw.get(n, "")) for n in names) +
            u32(len(rcpts)) + b"".join(rcpts))


ONE = envelope(sender="a@b", rcpts=[rcpt("c@d")])
FULL = envelope(flags=255, sender="a@b.example", envid="e", hold_reason="virus",
                hold_by="virus", client_addr="192.0.2.1",
                client_name="mx.example", helo="mx.example", proto="ESMTPS",
                tls="TLSv1.3 x", auth_user="u", listener="mx", policy="in",
                policy_hash="0123456789abcdef",
                rcpts=[rcpt("c@d", "rfc822;c+40d", 15),
                       rcpt("e@f", mailer=2, host="5.1.1", why="550 5.1.1 no"),
                       rcpt("g@h", mailer=3), rcpt("i@j", mailer=0)])
MANY = envelope(rcpts=[rcpt("r%d@x" % i) for i in range(70)])


def frame(kind, payload, flags=0):
    return struct.pack("<IHHQ", len(payload), kind, flags, 7) + payload


def entry(kind, us, data=b""):
    return kind + struct.pack(">IQ", len(data), us) + data


def tape():
    head = b"milldam recording 1\n"
    options = struct.pack(">III", 6, 0x1ff, 0)
    session = (entry(b"F", 0, b"milter\0virus\0") + entry(b"C", 1, b"new") +
               entry(b">", 2, b"O" + options) + entry(b"<", 3, b"O" + options) +
               entry(b"O", 3, options))
    talk = b"".join(
        entry(k, i + 4, d) for i, (k, d) in enumerate([
            (b">", b"M<a@b>\0"), (b"<", b"c"), (b">", b"R<c@d>\0"),
            (b"<", b"y550 no\0"), (b">", b"LSubject\0x\0"), (b"<", b"s"),
            (b">", b"Bx"), (b"<", b"c"), (b">", b"E"), (b"<", b"hA\0b\0"),
            (b"<", b"bxx"), (b"<", b"byy"), (b"<", b"p"), (b"<", b"a"),
            (b">", b"Q")]))
    end = entry(b"X", 99) + entry(b"E", 99, b"complete")
    write("tape", "empty", head + entry(b"E", 0, b"cut"))
    write("tape", "session", head + session + talk + end)
    write("tape", "twice", head + session + talk + entry(b"X", 50) +
          entry(b"C", 51, b"pooled") + entry(b"O", 52, options) +
          entry(b">", 53, b"K") + end)
    write("tape", "fact-long", head + entry(b"F", 0, b"milter\0" + b"v" * 300) + end)
    write("tape", "fact-other", head + entry(b"F", 0, b"host\0mx\0") + end)
    write("tape", "no-connection", head + entry(b">", 2, b"Q") + end)
    old = struct.pack(">III", 2, 0x1f, 0)
    write("tape", "old", head + session.replace(options, old) + talk + end)
    write("tape", "over", head + session + b"".join(entry(k, i + 4, d) for i, (k, d) in enumerate([
        (b">", b"Cmx\0"), (b"<", b"r"), (b">", b"M<a@b>\0"), (b">", b"R<c@d>\0"),
        (b"<", b"c")])) + end)
    write("tape", "unanswered", head + session + b"".join(entry(k, i + 4, d) for i, (k, d) in enumerate([
        (b">", b"M<a@b>\0"), (b">", b"R<c@d>\0"), (b"<", b"t"), (b">", b"A"),
        (b">", b"M<a@b>\0"), (b">", b"K"), (b"<", b"c")])) + entry(b"E", 99, b"cut"))
    write("tape", "bad-options", head + session + entry(b"O", 4, b"xx") + end)
    write("tape", "bad-kind", head + session + entry(b"?", 4, b"xx") + end)
    write("tape", "no-end", head + session + talk)
    write("tape", "back-in-time", head + entry(b"C", 9) + entry(b"X", 3))


def pack():
    for name, e in ("one", ONE), ("full", FULL), ("many", MANY), \
            ("no-rcpt", envelope()):
        write("pack", "env-" + name, b"\0" + e)
        write("pack", "env-" + name + "-cut", b"\0" + e[:-5])
    write("pack", "env-id-long", b"\0" + envelope(id="x" * 24))
    write("pack", "env-version", b"\0" + u16(9) + ONE[2:])
    write("pack", "env-count", b"\0" + envelope()[:-4] + u32(10001))
    write("pack", "env-nul", b"\0" + ONE.replace(b"a@b", b"a\0b"))
    write("pack", "env-no-nul", b"\0" + ONE.replace(b"a@b\0", b"a@bx"))
    write("pack", "env-mailer", b"\0" + envelope(rcpts=[rcpt("a", mailer=9)]))
    write("pack", "route", b"\1" + route(addr="a@b"))
    write("pack", "route-bad", b"\1" + route(mailer=4))
    write("pack", "small", b"\2" + u64(1) + u64(2) + text("250 ok"))
    write("pack", "small-more", b"\2" + u64(1) + u64(2) + text("250 ok") + b"x")
    write("pack", "msg", b"\2" + fixed(10, 5) + b"x" * 15)
    write("pack", "json", b"\3" + bytes(range(1, 255)) + "é漢𝄞".encode() +
          b"\xed\xa0\x80\xf4\x90\x80\x80")
    stream = frame(64, ONE) + frame(1, b"") + frame(64, FULL)
    for step in 0, 1, 255:
        write("pack", "stream-%d" % step, b"\4" + u8(step) + stream)
    write("pack", "stream-long", b"\4\1" + struct.pack("<IHHQ", 2 << 20, 1, 0, 0))
    write("pack", "stream-flags", b"\4\1" + frame(1, b"x", 2))
    write("pack", "stream-fd", b"\4\1" + frame(1, b"x", 1))
    write("pack", "frames", b"\5" + bytes([10, 1, 20, 2, 0, 64, 5, 65, 9, 64]))
    facts = "".join(["192.0.2.1", "a.test", "OK"])
    write("pack", "origin", b"\6" + u16(1) + u16(25) + u8(1) + text(facts) +
          text("") * 12 + u32(2) + text("BODY=8BITMIME") + text("SIZE=7"))
    write("pack", "origin-args", b"\6" + u16(1) + u16(25) + u8(0) +
          text("") * 13 + u32(33) + text("") * 33)
    write("pack", "origin-version", b"\6" + u16(2) + u16(25))
    write("pack", "frames-fds", b"\5" + bytes([3, 64]) * 40)
    write("pack", "frames-large", b"\5" + bytes([255, 128, 250, 192, 1, 64]) * 4)


def fixed(meta, length, file=0, offset=None):
    if offset is None:
        offset = 44 + meta
    return (u32(meta) + u32(0) + u32(1 if file else 0) + u32(0) + u64(file) +
            u64(offset) + u64(length) + u32(0))


MESSAGE, DONE, DEFERRED, HOLD, DROP, VOID, SEAL, COMMIT, MOVE, TOTALS, \
    REPLACED = range(1, 12)
STATE_END = 1  # in a hold record: the state of a moved message is complete
MAIL = b"From: a\r\nSubject: b\r\n\r\nbody\r\n"


def record(kind, payload, seq=1, batch=1, reserved=0, length=None):
    n = len(payload) if length is None else length
    head = (u32(0x3152444d) + u32(kind) + u32(n) + u32(0) + u64(seq) + u64(0) +
            u64(batch) + u32(reserved) + u32(0))
    r = head + payload
    return r + b"\0" * (-len(r) % 8)


def small(kind, a=0, b=0, why="", **kw):
    return record(kind, u64(a) + u64(b) + text(why), **kw)


def message(seq, env=ONE, content=MAIL, received=b"", file=0, batch=1,
            offset=None, length=None, kind=MESSAGE, origin=None):
    meta = env + text('{"outcome":"queued"}') + \
        u32(len(received)) + received + b"\0"
    if origin is not None:
        meta += u32(len(origin)) + origin + b"\0"
    n = len(content) if length is None else length
    return record(kind, fixed(len(meta), n, file, offset) + meta +
                  (b"" if file else content), seq=seq, batch=batch)


def totals(*v, n=None):
    return record(TOTALS, u32(len(v) if n is None else n) +
                  b"".join(u64(x) for x in v), seq=0)


def commit(batch=1): return small(COMMIT, 512, 1, seq=0, batch=batch)


def segment(name, flags, first, second=b""):
    """flags: 1 write too, 2 two segments, 4 format, 8 short, 16 head"""
    for f in flags, flags ^ 1:
        write("spool", "%s-%d" % (name, f), u8(f) + u16(len(first)) + first +
              second)


def spool():
    m1, m2 = message(1), message(2, FULL, received=b"Subject: x\r\n")
    segment("empty", 1, b"")
    segment("one", 1, m1 + commit())
    segment("two", 1, m1 + m2 + commit())
    segment("batches", 3, m1 + commit(1) + small(SEAL, batch=2) + commit(2),
            message(2, batch=3) + commit(3))
    segment("many", 1, message(5, MANY) + commit() +
            b"".join(small(DONE, i, 1, "250", seq=5, batch=2)
                     for i in range(69)) + commit(2))
    segment("outcomes", 1, m1 + m2 + commit() +
            small(DONE, 0, 1, "250 ok", seq=2) + small(DONE, 1, 2, "550", seq=2) +
            small(DEFERRED, 1800000000000, 3, "451 later", seq=2) +
            small(DEFERRED, 1800000000000, 4, "452 later", seq=2) +
            small(HOLD, 1, 0, "virus", seq=2) + small(HOLD, 0, 0, "", seq=2) +
            small(DONE, 99, 1, "", seq=2) + small(DONE, 0, 1, "250", seq=1) +
            small(DONE, 0, 1, "", seq=77) + commit(2))
    segment("drop", 1, m1 + commit() + small(DROP, why="admin") + commit(2))
    segment("void", 3, m1 + commit() + message(2, batch=2) + commit(2),
            small(VOID, 2, 2, seq=0, batch=3) + commit(3))
    segment("body", 1, message(1, file=100, offset=3, length=14) + commit())
    segment("body-over", 1, message(1, file=100, offset=0, length=17) +
            commit() + small(DONE, 0, 1, "250") + commit(2))
    segment("body-gone", 1, message(1, file=7, offset=0, length=9) + commit())
    segment("body-short", 1, message(1, file=100, offset=9, length=99) +
            commit())
    segment("twice", 1, m1 + m1 + commit())
    segment("no-commit", 1, m1 + commit() + m2)
    segment("no-commit-short", 9, m1 + commit() + m2[:200])
    segment("gap", 1, m1 + b"\0" * 80 + m2 + commit())
    segment("bad-head", 1, m1 + record(MESSAGE, b"x" * 90, seq=2, reserved=1) +
            message(3) + commit())
    segment("bad-length", 1, m1 + small(DONE, 0, 1)[:8] + u32(60000) +
            small(DONE, 0, 1)[12:] + message(3) + commit())
    segment("bad-small", 1, m1 + record(DONE, b"abc") + commit())
    segment("bad-meta", 1, record(MESSAGE, fixed(999, 3) + b"abc") + commit())
    segment("bad-envelope", 1, message(1, ONE[:-1]) + commit())
    end = small(DEFERRED, 9, 2, "451", batch=2) + \
        small(HOLD, 0, STATE_END, batch=2) + commit(2)
    copy = message(1, kind=MOVE, batch=2)
    segment("moved", 3, m1 + commit(), copy + end)
    segment("moved-same", 1, m1 + commit() + copy + end)
    segment("moved-alone", 1, copy + end)
    segment("moved-half", 3, m1 + commit(), copy + commit(2))
    segment("moved-other", 3, m1 + commit(),
            message(1, FULL, kind=MOVE, batch=2) + end)
    segment("moved-void", 3, m1 + commit() + copy + end,
            small(VOID, 2, 2, seq=0, batch=3) + commit(3))
    segment("totals", 1, m1 + totals(*range(12)) + commit())
    segment("totals-more", 1, m1 + totals(*range(20)) + commit())
    segment("totals-less", 1, m1 + totals(*range(11)) + commit())
    segment("totals-count", 1, m1 + totals(*range(12), n=13) + commit())
    held = message(1, FULL, origin=b"facts")
    segment("held", 1, held + small(HOLD, 1, 0, "not released") + commit())
    segment("replaced", 1, held + commit() +
            message(2, batch=2) + small(REPLACED, batch=2) + commit(2))
    segment("replaced-void", 3, held + commit() + message(2, batch=2) +
            small(REPLACED, batch=2) + commit(2),
            small(VOID, 2, 2, seq=0, batch=3) + commit(3))
    segment("replaced-unknown", 1, m1 + small(REPLACED, seq=9) + commit())
    segment("bad-type", 1, m1 + record(42, b"") + commit())
    segment("bad-format", 5, m1 + commit())
    segment("bad-head-of-segment", 17, m1 + commit())
    segment("large", 1, message(1, content=b"x" * 9000) + commit())


BASE = '''hostname = "mx.example.org"
postmaster = "p@example.org"
milter "access" { run = "milldam-access" settings = a.conf args = { -v "x y" } }
milter "virus" {
	endpoints = { "inet:10023@localhost", "unix:/run/v" "inet6:10@[::1]" /run/x }
	timeout = { "command=2s" "connect=500ms", "message=1m" }
	on-failure = accept # why
	mode = shadow
	user = nobody
	early = yes
}
policy "in" { authorise = "access" chain = { "virus" }
	rule "r" { client = { 192.0.2.0/24 "2001:db8::/32" 127.0.0.1 } skip = { virus } }
}
listener "mx" { address = { "127.0.0.1:2525" "[::1]:25" } policy = "in" }
'''

GOOD = {
    "site": '''spool = "/tmp/spool"
run-dir = run
user = milldam
log { }
route { mailertable = "text:/m" smart-host = "smtp:[192.0.2.25]:25"
	names = { a b } nameservers = { "127.0.0.1:5353" } hosts-file = /etc/hosts }
limits { message-size = 10M recipients = 100 sessions = 50 line-length = 64KiB
	inline-size = 1M greet-pause = 1s command-time = 5m data-time = 1h }
queue { segment-size = 16MiB min-free = 1G retry-min = 1m retry-max = 1d
	warn-after = 4h expire = 5d keep-records = 7 }
relay { connect-time = 30s idle-time = 0s reuse = 1 }
''',
    "include": 'include "a.conf"\ninclude "*.conf"\n'
               '%%FILE\npolicy "in" { rule "s" { skip = virus } }\n'
               '%%FILE\ninclude "c.conf"\n%%FILE\n# nothing\n',
    "merge": '%%FILE\nmilter "virus" { mode = off }\n'
             'policy "in" { chain = { } rule "r" { skip = { } } }\n',
    "strings": 'milter "v2" { run = "a\\"b\\\\c\\n\\t" }\n',
}
BAD = [
    'hostnam = x', 'limits { recipients = many }', 'limits { message-size = 1 }',
    'queue { expire = 5 }', 'queue { expire = 5y }', 'queue { retry-min = -5s }',
    'policy "in" { chain = { nobody } }', 'policy "in" { chain = { virus virus } }',
    'policy "in" { rule "r" { skip = { access } } }',
    'milter "access" { mode = shadow }', 'milter "access" { on-failure = accept }',
    'milter "x" { }', 'milter "x" { endpoints = { "foo" } }',
    'milter "x" { endpoints = { "inet:0@h" "inet:h" "inet:1@" "unix:r" } }',
    'milter "x y" { run = a }', 'milter { run = a }', 'listener "l" { policy = "in" }',
    'listener "l" { address = { "localhost:25" "1.2.3.4:99999" } }',
    'listener "mx" { policy = "out" }', 'postmaster = "nobody"',
    'route { mailertable = "ldap:x" smart-host = "uucp:x" }',
    'route { nameservers = { x } names = { "" } }',
    'policy "in" { rule "r" { client = { 192.0.2.1/24 300.1.1.1 ::1/200 } } }',
    'a = "unclosed', 'a = { 1 2', 'a {', '}', '= 5', 'a = \\x', 'a = "\\q"',
    'a b c', 'include', 'include { }', 'include "none.conf"', 'a { b { c { d { e { '
    'f { g { h { i { j = 1 } } } } } } } } }', 'a = { { } }', 'x = "' + 'y' * 5000 +
    '"', 'a = "tab\tand\x01"', '\xff\xfe', 'limits = 5', 'policy "in" = 5',
    'milter "virus" { early = maybe mode = sideways timeout = { "fast=1s" "x" } }',
    'milter "virus" { timeout = { "command=0s" "connect=9999d" } }',
    'log { level = loud }', 'limits { recipients = 99999999999999999999 }',
    'limits { message-size = 99999999999999G }', 'a = 1 a = 2', 'limits { recipients = {1 2} }',
]


def conf():
    write("conf", "base", BASE)
    for name, t in GOOD.items():
        write("conf", name, BASE + t)
    for i, t in enumerate(BAD):
        write("conf", "bad-%02d" % i, BASE + t + "\n")
    write("conf", "nul", BASE + "a = \0\n")
    write("conf", "empty", "")
    write("conf", "cut", BASE[:-20])


def name(*labels): return b"".join(u8(len(l)) + l for l in labels) + b"\0"


def rr(kind, data, ttl=300, owner=b"\xc0\x0c", cls=1, length=None):
    n = len(data) if length is None else length
    return owner + struct.pack(">HHIH", kind, cls, ttl, n) + data


A, CNAME, PTR, MX, AAAA = 1, 5, 12, 15, 28
CHOICE = {A: 0, AAAA: 1, MX: 2, PTR: 3}  # first byte of dns_fuzz's input


def answer(seed, kind, *rrs, count=None, questions=1):
    head = struct.pack(">HHHHHH", 0, 0x8180, questions,
                       len(rrs) if count is None else count, 0, 0)
    write("dns", seed, u8(CHOICE[kind]) + head + name(b"test") +
          struct.pack(">HH", kind, 1) + b"".join(rrs))


def mx(pref, *labels): return struct.pack(">H", pref) + name(*labels)


def dns():
    v4 = bytes([192, 0, 2, 1])
    answer("a", A, rr(A, v4))
    answer("aaaa", AAAA, rr(AAAA, bytes(15) + b"\1"))
    answer("mx", MX, rr(MX, mx(10, b"mx", b"test")), rr(MX, mx(20, b"mx2")))
    answer("nullmx", MX, rr(MX, mx(0)))
    answer("ptr", PTR, rr(PTR, b"\1a\xc0\x0c"))
    answer("none", A)
    answer("alias", A, rr(CNAME, name(b"b"), ttl=5), rr(A, v4))
    answer("many", A, *[rr(A, v4)] * 70)
    answer("ttl", A, rr(A, v4, ttl=0x80000001), rr(A, v4, ttl=90000))
    answer("class", A, rr(A, v4, cls=3))
    answer("a-long", A, rr(A, v4 + b"x"))
    answer("aaaa-short", AAAA, rr(AAAA, v4))
    answer("mx-short", MX, rr(MX, b"\0\1"))
    answer("mx-cut", MX, rr(MX, b"\0\1\2m"))
    answer("not-a-host", PTR, rr(PTR, name(b"a b")), rr(PTR, name(b"a.b")),
           rr(PTR, name(b"a", b"x" * 63)), rr(PTR, name(b"_x-y")))
    answer("dots", PTR, rr(PTR, name(b"..")), rr(PTR, name()))
    answer("loop", PTR, rr(PTR, b"\xc0\x21"))
    answer("length", A, rr(A, v4, length=500))
    answer("cut", A, rr(A, v4)[:7])
    answer("count", A, rr(A, v4), count=9)
    answer("questions", A, questions=3)
    write("dns", "short", b"\0\0\1")


def reply():
    for seed, t in {
            "greeting": "220 mx.test ESMTP\r\n250-mx\r\n250-SIZE 100\r\n"
                        "250 PIPELINING\r\n",
            "mixed": "250-a\r\n251 b\r\n",
            "refusal": "550-5.1.1 no\r\n550 5.1.1 such user\r\n354\r\n",
            "controls": "250 a\1b\tc\x7f\xe9\n",
            "code": "150 a\r\n", "letters": "2x0 a\r\n", "after": "250_a\r\n",
            "short": "25\r\n", "empty": "\r\n", "cut": "250-a\r\n250",
            "long-line": "250 " + "x" * 2001 + "\r\n",
            "no-end": "250 " + "x" * 2100,
            "longest": "250 " + "x" * 1996 + "\r\n",
            "one-over": "250 " + "x" * 1997 + "\r\n",
            "long-text": "550-" + "x" * 700 + "\r\n550 " + "y" * 700 + "\r\n",
            "lines": "250-a\r\n" * 130,
            "kept": ("250-" + "x" * 1500 + "\n") * 12}.items():
        write("reply", seed, t.encode("latin-1"))


def route_seeds():
    literal, plain = "a@[192.0.2.1]", "a@b.x.test."
    for seed, addr, value in (
            ("error", plain, 'error:5.7.1:550 "no"'),
            ("smtp", "a@x.test", "smtp:[192.0.2.1]:25"),
            ("word", literal, "error:nohost"),
            ("word-text", literal, "error:nouser 553 not here"),
            ("word-none", plain, "error:hello there"),
            ("code", plain, "error:450 later"), ("code-bare", plain, "error:550"),
            ("code-dsn", plain, "error:550 5.1.1 no such user"),
            ("dsn-temporary", plain, "error:4.2.0:try again"),
            ("dsn-bare", plain, "error:5.1.1"),
            ("dsn-bad", plain, "error:5.1:550 x"), ("dsn-no", plain, "error:5.x.1"),
            ("disagree", plain, "error:4.1.1:550 x"),
            ("control", plain, "error:550 a\x01b"),
            ("discard", plain, "discard:"), ("mx", plain, "esmtp:mx.test:2525"),
            ("relay", plain, "relay:[mx.test]"), ("v6", plain, "smtp:[IPv6:::1]"),
            ("port", plain, "smtp:mx.test:0"), ("port-text", plain, "smtp:x:2y"),
            ("after-host", plain, "smtp:[x]y"), ("no-host", plain, "smtp:"),
            ("bad-host", plain, "smtp:a b"), ("mailer", plain, "uucp:x"),
            ("no-domain", "a", "discard"), ("bad-domain", "a@b c", "discard"),
            ("no-local", "@b", "discard"), ("empty", plain, ""),
            ("long", plain, "error:550 " + "x" * 3900),
            ("smart", "|a@x.test", "smtp:hub.test"),
            ("unreadable", "!a@x.test", "x")):
        write("route", seed, addr + "\n" + value)


def map():
    for seed, t in {
            "table": "# from, what\nExample.ORG smtp:[192.0.2.1]\n"
                     ".example.org\t error:nohost text \r\n\n  b  c d\n",
            "twice": "b 1\na 2\nB 3\n", "bare": "a 1\nb\n", "nul": "a \0\n",
            "empty": "", "no-end": "a 1", "many": "".join(
                "k%d v%d\n" % (i * 7919 % 100, i) for i in range(100)),
            "long-key": "k" * 1025 + " v\n",
            "long-value": "k " + "v" * 4097 + "\n"}.items():
        write("map", seed, t)


def http_request():
    host = "Host: localhost\r\n"
    get = "GET / HTTP/1.1\r\n"
    for seed, t in {
            "get": "GET /metrics?a HTTP/1.1\r\n" + host + "\r\n",
            "head": "HEAD http://[::1]/readyz HTTP/1.1\r\nHost: [::1]:9\r\n\r\n",
            "old": "GET / HTTP/1.0\r\nAccept: x\r\n\r\n", "post": "POST / HTTP/1.1\r\n",
            "bare": "GET / HTTP/1.1\n", "cr": get + "\rX: y\r\n",
            "version": "GET / HTTP/9.9\r\n", "target": "GET x HTTP/1.1\r\n",
            "no-path": "GET http://a HTTP/1.1\r\n", "two": "GET /\r\n",
            "target-8bit": b"GET /\xff HTTP/1.1\r\n",
            "body": get + host + "Content-Length: 3\r\n\r\nabc",
            "chunked": get + "Transfer-Encoding: x\r\n", "hosts": get + host * 2,
            "no-host": get + "\r\n", "host-name": get + "Host: a.b\r\n",
            "host-open": get + "Host: [::\r\n", "host-6": get + "Host: [x]\r\n",
            "host-port": get + "Host: 127.0.0.1:x\r\n", "fold": get + host + " x\r\n",
            "control": get + "A: \x01\r\n", "many": get + "A: b\r\n" * 70,
            "long": "GET /" + "a" * 9000, "long-field": get + "A: " + "a" * 9000,
            "page": "# process r.0\nmilldam_sessions 1\nmilldam_milter_calls_total"
                    '{milter="a\\\\\\"\\n",endpoint="b"} 12\n',
            "page-own": 'milldam_process_up{process="a"} 1\nmilldam_ready 0\n',
            "page-bad": 'milldam_ready{a="\\x"} 1\nmilldam_ready 1.5.6\nmilldam_ready{a=b} 1\n',
            "page-histogram": 'milldam_milter_answer_seconds_bucket{le="+Inf"} 1\n'
                              "milldam_milter_answer_seconds_sum 0.5\n"
                              "milldam_milter_answer_seconds_x 1\n"}.items():
        write("http_request", seed, t)


def smtp_command():
    x = "x" * 600
    commands = {
        "data": "DATA", "data-arg": "DATA now", "rset": "RSET  ", "quit": "quit",
        "unknown": "FOO", "nul": "EHLO a\0b", "cr": "NOOP\r", "long": "NOOP " + x * 9,
        "bdat-bad": "BDAT x", "bdat-first": "BDAT 5 FIRST",
        "from": "MAIL a@b", "to": "RCPT FROM:<a@b>", "null": "MAIL FROM:<>",
        "null-rcpt": "RCPT TO:<>", "bare": "MAIL FROM: a@b.c SIZE=1",
        "no-domain": "MAIL FROM:<a>", "no-domain-rcpt": "RCPT TO:<a>",
        "route": "RCPT TO:<@a.b,@c:x@y>", "route-open": "RCPT TO:<@a.b,",
        "route-bad": "RCPT TO:<@-a:x@y>", "route-end": "RCPT TO:<@a b>",
        "route-long": "RCPT TO:<" + ("@" + "a." * 120 + "b,") * 8 + ":x@y>",
        "local-long": "MAIL FROM:<" + x[:65] + "@b>",
        "atom-long": "RCPT TO:<" + x + "@b>",
        "dots-long": "MAIL FROM:<" + "a." * 300 + "a@b>",
        "label-long": "RCPT TO:<a@" + x[:64] + ".b>",
        "domain-long": "MAIL FROM:<a@" + "a." * 150 + "b>",
        "label-dash": "MAIL FROM:<a@b-.c>", "label-empty": "RCPT TO:<a@b..c>",
        "quoted": 'MAIL FROM:<"a \\"b\\\\ c"@d>', "quoted-8bit": 'MAIL FROM:<"é"@d> SMTPUTF8',
        "quoted-open": 'MAIL FROM:<"a>', "quoted-escape": 'MAIL FROM:<"\\é"@d>',
        "quoted-bytes": b'MAIL FROM:<"\xff"@d>', "quoted-tab": 'MAIL FROM:<"a\tb"@d>',
        "quoted-long": 'MAIL FROM:<"' + x + '"@d>',
        "literal": "RCPT TO:<a@[192.0.2.1]>", "literal-6": "RCPT TO:<a@[IPv6:2001:db8::1]>",
        "literal-bad": "RCPT TO:<a@[192.0.2]>", "literal-6-bad": "RCPT TO:<a@[IPv6:x]>",
        "literal-open": "RCPT TO:<a@[192.0.2.1>", "literal-long": "RCPT TO:<a@[" + x + "]>",
        "dots": "MAIL FROM:<a..b@c>", "dots-good": "MAIL FROM:<a.b.c@d.e>",
        "after": "MAIL FROM:<a@b>x", "open": "MAIL FROM:<a@b", "space": "MAIL FROM:<a b@c>",
        "utf8-2": "RCPT TO:<\u00fc@\u00fc.x>", "utf8-4": "RCPT TO:<\U0001f4e7@x>",
        "utf8-need": "MAIL FROM:<\u6f22@x>", "utf8-given": "MAIL FROM:<\u6f22@x> SMTPUTF8",
        "utf8-cut": b"RCPT TO:<\xe6\xbc@x>", "utf8-over": b"RCPT TO:<\xe0\x80\x80@x>",
        "utf8-range": b"RCPT TO:<\xf4\x90\x80\x80@x>", "utf8-lone": b"RCPT TO:<\x80@x>",
    }
    mail = ("BODY=8BITMIME SIZE=5 RET=HDRS ENVID=a+2Bb AUTH=<>", "BODY=7BIT RET=FULL AUTH=a",
            "SIZE=", "SIZE=99999999999999999999", "BODY=9", "SMTPUTF8=1", "RET=X", "ENVID=",
            "ENVID=a+2", "ENVID=\u00e9", "ENVID=" + x[:101], "AUTH=", "FOO=1", "=1", "SIZE",
            "SIZE=1 size=2", x[:40] + "=1", "SIZE=1 BODY=7BIT RET=FULL ENVID=a AUTH=a "
            "SMTPUTF8 " + " ".join("X%d" % i for i in range(20)), "A!B")
    rcpt = ("NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+40b", "NOTIFY=NEVER",
            "NOTIFY=NEVER,DELAY", "NOTIFY=", "NOTIFY=NO", "ORCPT=a", "ORCPT=;a", "FOO")
    for i, t in enumerate(mail):
        commands["mail-%02d" % i] = "MAIL FROM:<a@b> " + t
    for i, t in enumerate(rcpt):
        commands["rcpt-%02d" % i] = "RCPT TO:<a@b> " + t
    for seed, t in commands.items():
        write("smtp_command", seed, t)


def smtp_data():
    """first byte: 1 BDAT, 2 little room in the store; then the pieces' size"""
    head, end = "From: a\r\nSubject: b\r\n", "\r\n.\r\n"
    for seed, t in {
            "line-long": head + "\r\n" + "x" * 300 + end,
            "line-long-header": "X: " + "x" * 300 + "\r\n" + end,
            "size": head + "\r\n" + ("x" * 198 + "\r\n") * 600 + ".\r\n",
            "header-large": "X: " + "y" * 150 + "\r\n" +
                            ("Z: " + "z" * 180 + "\r\n") * 15 + end,
            "header-fields": "A: b\r\n" * 30 + end,
            "header-nul": "A: \0\r\n" + end, "body-nul": head + "\r\n\0" + end,
            "received": "Received: a\r\n\tb\r\nRECEIVED : c\r\n" + head + end,
            "dots": head + "\r\n..\r\n.x\r\n..." + end,
            "dot-cr": head + "\r\n.\rx" + end, "cr": head + "a\rb" + end,
            "cr-cr": head + "\r\r\n" + end, "lf": head + "\na" + end,
            "lf-dot": head + "\r\na\n.\n" + end, "no-header": "\r\nbody" + end,
            "at-once": ".\r\n", "continued": " a\r\n" + end,
            "only-header": head + ".\r\n", "colon": ": a\r\n" + end,
            "8bit": head + "\r\n\u00e9" + end, "cut": head + "\r\nabc",
            "cut-cr": head + "\r\nabc\r",
            "store": head + "\r\n" + "abc\r\n" * 100 + ".\r\n"}.items():
        for flags in ((0, 1) if seed != "store" else (2, 3)):
            write("smtp_data", "%s-%d" % (seed, flags), u8(flags) + u8(6) + t.encode())


def access():
    domains = "Example.org .sub.example.org # ours\n relay.test.\n"
    for i, (address, value) in enumerate((
            ("User@Example.org", "OK"), ("a@x.sub.example.org.", "relay all"),
            ("a%b@example.org", "SKIP"), ("a!b@c", "REJECT"), ("@a,@b:c@d", "DISCARD"),
            ('"a@b"@c', "TEMPFAIL"), ('"a\\"@b"@c', "HATER"), ("a\\@b@c", "FRIEND"),
            ("a", "550 no"), ("@b", "550 5.7.1 no"), ("", "ERROR:550 no"),
            ("a@[192.0.2.1]", 'ERROR:"550 no"'), ("a@[IPv6:::1]", "ERROR:5.7.1:550 no"),
            ("x" * 1100, 'ERROR:5.7.1:"550 5.7.1 no"'), ("x" * 600 + "@" + "y" * 420, "x"),
            ("a@b", "QUARANTINE:why"), ("a@b", "QUARANTINE:"), ("a@b", "ERROR:4.1.1:550 x"),
            ("a@b", "450 5.1.1 x"), ("a@b", "55x"), ("a@b", "ERROR:5.x.1:550 x"),
            ("a@b", "550 5.7777.1 x"), ("a@b", "ERROR:5.7.1:x"), ("a@b", "ERROR:x"),
            ("a@b", ""), ("a@example.org..", "ok"))):
        write("access", "%02d" % i, address + "\n" + value + "\n" + domains)
    write("access", "bad-domain", "a@b\nOK\na b@c\n")
    write("access", "long-domain", "a@b\nOK\n" + "x" * 300)
    write("access", "many-domains", "a@b\nOK\n" +
          "".join("d%d.test\n" % i for i in range(40)))
    write("access", "dot", "a@b\nOK\n.\n")


def rewrite():
    h = "host.example.org"
    for i, t in enumerate((
            "bob@" + h, "Bob <bob@%s>" % h, " <bob@HOST.Example.Org> ",
            "bob@a.b.in.example.org", "a@%s, b@x.in.example.org" % h,
            "group: a@%s, b@c.test;" % h, "root@" + h, '"root"@' + h, "ann@" + h,
            '"a b"@%s' % h, '"r\\oot"@' + h, "a (c (d\\) e)) @ " + h,
            "<@x,@y:a@%s>" % h, "a@[192.0.2.1]", '"open', "(open", "[open", "a)b",
            "<a@" + h, "a@b@" + h, "a b@" + h, 'a@"%s"' % h, "a@x.test", "a@example.org",
            '"a".b@' + h, '"' + "x" * 300 + '"@' + h, "@" + h, "<" + h + ">", "a.b-c.test",
            "a..b", "x" * 64 + ".test", "a_b", '"a\\', "(a\\", "<a,b@%s>" % h, "\\ @;:",
            ("%s, " % ("a@" + h)) * 40)):
        write("rewrite", "%02d" % i, t)


RULES = {
    "session": 'listener = mx client = {192.0.2.0/24, "!192.0.2.9"} client-name = '
               '{unknown, .a.test} helo = {"*.test", h} tls = {none, TLSv1.3, verified, '
               'any, TLSv1.2} login = {"*", "!x"} skip = {virus}',
    "sender": 'sender = {"a@*", "<>", "*@.from.test", "!*x@*"} sender-domain = '
              '{".test", "*"} chain = {spam}',
    "recipient": 'recipient = {"abuse@*", "!b@c"} recipient-domain = "*.org" '
                 'add = {"dlp before virus"} mode = {"dlp=shadow", "grey=off"}',
    "everybody": 'recipient = "*" sender = "*" on-failure = {"virus=accept"} timeout = '
                 '{"virus.message=10m", "virus.connect=1s", "virus.command=9s"} last = yes',
    "time": 'time = {"mon-fri 08:00-18:00", sat, "sun-tue", "22:00-06:00"} skip = spam',
    "night": 'time = "fri 22:00-06:00" skip = spam',
    "size": 'size = {">10", "<5", "7-8"} skip = {virus} add = {dlp}',
    "header": 'header = {"List-Id", "Subject: a*b", "!X-No"} add = {dlp}',
    "verdict": 'verdict = {"grey=accept", "virus=failed"} skip = {spam}',
    "table": 'table = {"sender text:/t", "recipient text:/t x*", "sender-domain hash:/t", '
             '"client text:/t", "client-name btree:/t", "helo text:/t", "login text:/t", '
             '"listener text:/t", "recipient-domain text:/t"} skip = grey',
    "table-one": 'table = "recipient text:/t" add = dlp',
    "title": '} rule "a\\"b\\\\c\\n\\t" { skip = {grey, spam}',
    "none": 'add = {}',
}
BAD_RULES = (
    'skip = access', 'mode = {"access=off"}', 'on-failure = {"access=accept"}',
    'add = {"virus before access"}', 'size = ">1" chain = virus', 'skip = dlp',
    'size = ">1" add = {"spam before x"} mode = x', 'verdict = "spam=accept" skip = virus',
    'verdict = {"dlp=accept"} skip = spam', 'verdict = {"grey=reject", x, "y=accept"}',
    'verdict = "grey=accept" add = {"dlp before spam"}', 'chain = {} skip = ghost',
    'size = ">1" add = virus', 'skip = virus add = {virus, virus}', 'mode = {virus, "x=y"}',
    'timeout = {"virus.x=1s", "virus", "ghost.message=1s"}', 'on-failure = "virus=fly"',
    'listener = x client = {x} tls = x time = {x, "mon-x", "08:00", "25:00-08:00"}',
    'sender = {x, "@", "a@"} recipient = "<>" sender-domain = "a@b" size = {x, "<0", "9-1"}',
    'header = {"a b", ":x"} table = {x, "size text:/t", "sender ldap:x", "sender"}',
    'sender = {""} helo = {} login = "%s"' % ("x" * 600), 'last = maybe match = first',
    'chain = {virus, virus, ghost}', 'time = "mon 08:00-08:00"', 'add = {"dlp before dlp"}')
FACTS = (
    "lmx\nc192.0.2.7\nn[192.0.2.7]\nhmx.a.test\ntTLSv1.3\nuuser\nsa@x.from.test\n"
    "rAbuse@example.org.\nw7000\nz11\nfSubject: a\tb\nfList-Id:x\nv1\nv\x02",
    "lx\ncx\nnmx.a.test\ns\nrpostmaster\nw10000\nz3\nv3",
    "c2001:db8::1\nnx.test\ns\"q\\\\@x\"@from.test\nr\"ab\\use\"@a.b.org\nw9998\nz7",
    "szed@tab.le\nrx@ab.cd.zz.org\nuzed\nhzz.test\nnzz.test",
    "s!@x\nr!x@y.org\n")


def policy():
    for name, rule in RULES.items():
        for i, facts in enumerate(FACTS):
            write("policy", "%s-%d" % (name, i),
                  'rule "r" { %s }\n%%%%\n%s' % (rule, facts))
        write("policy", name + "-first", 'match = first rule "q" { %s }\nrule "r" '
              '{ skip = grey %s }\n%%%%\n%s' % (rule, "last = yes", FACTS[0]))
    for i, rule in enumerate(BAD_RULES):
        write("policy", "bad-%02d" % i, 'rule "r" { %s }' % rule)
        write("conf", "rule-bad-%02d" % i, BASE + 'policy "in" { rule "r" { %s } }' % rule)
    for name, rule in RULES.items():
        write("conf", "rule-" + name, BASE + 'milter "grey" { run = g }\nmilter "spam" '
              '{ run = s }\nmilter "dlp" { run = d content = yes }\npolicy "in" { chain = '
              '{grey, virus, spam} match = all rule "r" { %s } }\n' % rule)


def mta():
    def p(code, *texts, raw=b""):
        body = b"".join(t.encode() + b"\0" for t in texts) + raw
        return struct.pack(">I", len(body) + 1) + code.encode() + body

    def c(name, family=b"4", addr="192.0.2.1"):
        return p("C", name, raw=family + (b"" if family == b"U" else
                                          b"\0\x19" + addr.encode() + b"\0"))

    def o(version, actions, protocol, more=b""):
        return p("O", raw=struct.pack(">III", version, actions, protocol) +
                 more)

    def message(sender="<x@y>", rcpts=("<c@d>",), fields=(("Subject", "x"),),
                body=b"body", macros=True, data=True):
        return ((p("D", raw=b"Mi\0Q1\0{mail_addr}\0x@y\0") if macros else b"") +
                p("M", sender, "SIZE=1") +
                b"".join(p("R", r) for r in rcpts) +
                (p("T") if data else b"") +
                b"".join(p("L", *f) for f in fields) + p("N") +
                (p("B", raw=body) if body is not None else b"") + p("E"))

    ALL, FEW, SLOW, CUT = 4, 5, 6, 12
    whole = c("x") + p("H", "x") + message()
    for name, flags in (("all", ALL), ("few", FEW), ("slow", SLOW),
                        ("slow-few", 7), ("cut", CUT), ("cut-slow", 14)):
        write("mta", "whole-" + name, bytes([flags, 6]) + whole + p("A") +
              message() + p("Q"))
    for name, terms in (("v6", (6, 0x1FF, 0x1FFFFF)), ("v2", (2, 0, 0)),
                        ("v4", (4, 0x3F, 0x3FF)), ("v7", (7, 0x1FF, 1 << 31)),
                        ("v1", (1, 0, 0)), ("twice", (6, 0x1FF, 0x7F))):
        write("mta", "options-" + name, b"\0\0" + o(*terms) + whole)
    write("mta", "options-long", b"\0\0" + o(6, 511, 0x1FFFFF, b"more") +
          whole + o(6, 511, 0x1FFFFF))
    write("mta", "options-short", b"\0\0" + p("O", raw=b"\0\0\0\6"))
    write("mta", "none", b"\0\0" + whole)
    for v in "adtrl":
        bodied = message(body=v.encode())
        write("mta", "verdict-connect-" + v, bytes([CUT, 3]) + c(v) +
              p("H", "x") + message())
        write("mta", "verdict-helo-" + v, bytes([ALL, 0]) + c("x") +
              p("H", v) + message())
        write("mta", "verdict-mail-" + v, bytes([CUT, 7]) +
              message("<%s@x>" % v) + message())
        write("mta", "verdict-rcpt-" + v, bytes([ALL, 0]) +
              message(rcpts=("<%s@x>" % v, "<x@y>", "<%s@z>" % v)))
        write("mta", "verdict-headers-" + v, bytes([CUT, 9]) +
              message(fields=(("A", v),)) + message())
        write("mta", "verdict-message-" + v, bytes([ALL, 0]) + bodied +
              bodied + bytes())
        write("mta", "verdict-few-" + v, bytes([FEW, 0]) + bodied + bodied)
    edits = (("h", "value"), ("i", "v"), ("m", "Subject"), ("x", "1"),
             ("x", "2"), ("+", "n@n"), ("+", "p@p"), ("-", "c@d"),
             ("e", ""), ("q", "held"), ("b", "1234567"))
    for flags in (ALL, FEW, SLOW, CUT):
        write("mta", "edits-%d" % flags, bytes([flags, 40]) +
              message(fields=edits) + message(fields=edits[::-1]))
    write("mta", "edits-empty-body", bytes([CUT, 1]) +
          message(fields=(("b", ""), ("m", "no such"))))
    write("mta", "edits-many", bytes([CUT, 99]) +
          message(fields=edits * 30))
    quits = (c("x"), p("H", "x"), p("M", "<a@b>"), p("R", "<c@d>"), p("T"),
             p("L", "A", "b"), p("N"), p("B", raw=b"x"), p("E"), p("A"),
             p("U", "WHAT"))
    for i in range(len(quits) + 1):
        write("mta", "quit-nc-%02d" % i, bytes([ALL, 0]) +
              b"".join(quits[:i]) + p("K") + whole + p("K") + o(6, 1, 0) +
              whole)
    for i, family in enumerate((
            c("x", b"U"), c("unknown", b"6", "IPv6:2001:db8::1"),
            c("unknown", b"6", "::ffff:192.0.2.1"), c("unknown", b"U"),
            c("x", b"L", "/run/x"), c("x", b"4", "no"), c("x", b"7", ""),
            p("C", "x"), p("C", raw=b"x"))):
        write("mta", "client-%d" % i, bytes([ALL, 0]) + family + message())
    write("mta", "client-twice", bytes([ALL, 0]) + whole + whole)
    for i, bad in enumerate((
            b"\0\0\0\0", b"\xff\xff\xff\xff", p("H", raw=b"x"), p("H"), p("M"),
            p("R", raw=b"<x"), p("L", "a"), p("L", "a", "b", "c"), p("?"),
            p("D"), p("D", raw=b"Mi\0"), p("D", raw=b"Mi"), p("B"),
            p("U"), p("M", *["x"] * 101), p("E", raw=b"more"),
            b"\0\0\0\5H")):
        write("mta", "bad-%02d" % i, bytes([CUT, 2]) + bad + message())
    for i, order in enumerate(("TLNBE", "RRE", "MULE", "ENE", "HMHE", "MMRE",
                               "MREMREE", "UKAUAKE")):
        say = {"M": ("<a@b>",), "R": ("<c@d>",), "H": ("x",), "U": ("x",),
               "L": ("A", "b")}
        write("mta", "order-%d" % i, bytes([CUT, 10]) + b"".join(
            p(code, *say.get(code, ())) for code in order))
    sets = b"".join(p("D", raw=x) for x in (
        b"Cj\0gate\0", b"H{x}\0\0", b"M{mail_addr}\0a\0i\0Q\0", b"R", b"Li\0x\0",
        b"?i\0x\0", b"E{msg_id}\0x\0", b"Mj\0" + b"y" * 3000 + b"\0"))
    write("mta", "macros", bytes([CUT, 50]) + sets + whole + sets +
          message(macros=False) + message(macros=False))
    write("mta", "long-body", bytes([CUT, 255]) +
          message(body=b"x" * 3000) + message(body=None))


mta()
access()
policy()
rewrite()
pack()
spool()
conf()
http_request()
smtp_command()
smtp_data()
dns()
reply()
route_seeds()
map()
tape()
