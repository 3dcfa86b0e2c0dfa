#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""seeds.py - write the seed corpora of conf, pack and spool

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
    write("pack", "frames-fds", b"\5" + bytes([3, 64]) * 40)
    write("pack", "frames-large", b"\5" + bytes([255, 128, 250, 192, 1, 64]) * 4)


def fixed(meta, length, file=0, offset=None):
    if offset is None:
        offset = 44 + meta
    return (u32(meta) + u32(0) + u32(1 if file else 0) + u32(0) + u64(file) +
            u64(offset) + u64(length) + u32(0))


MESSAGE, DONE, DEFERRED, HOLD, DROP, VOID, SEAL, COMMIT = range(1, 9)
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
            offset=None, length=None):
    meta = env + text('{"outcome":"queued"}') + \
        u32(len(received)) + received + b"\0"
    n = len(content) if length is None else length
    return record(MESSAGE, fixed(len(meta), n, file, offset) + meta +
                  (b"" if file else content), seq=seq, batch=batch)


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


pack()
spool()
conf()
