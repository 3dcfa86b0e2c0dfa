# SPDX-License-Identifier: ISC
# slow
"""real_milters - filters that nobody here wrote, from Debian's packages

What was said to each and what it answered is compared with the table in
docs/milter.md: a line that is not there is printed as it should be.
"""
import concurrent.futures
import email.utils
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from filters import BOXES, RECORD, Box  # noqa: E402
from gateway import TOP, Gateway, Tap, stuff, without_trace  # noqa: E402
from mails import EICAR, eicar_mail  # noqa: E402
from nameserver import NameServer  # noqa: E402
from netns import own_network  # noqa: E402
from packages import unpack  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
GTUBE = (b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" +
         b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X")
ZONE = {
    ("reject.test", "TXT"): ["v=spf1 -all"],
    ("_dmarc.reject.test", "TXT"): ["v=DMARC1; p=reject"],
    ("quarantine.test", "TXT"): ["v=spf1 -all"],
    ("_dmarc.quarantine.test", "TXT"): ["v=DMARC1; p=quarantine"],
    ("pass.test", "TXT"): ["v=spf1 ip4:192.0.2.0/24 -all"],
    ("_dmarc.pass.test", "TXT"): ["v=DMARC1; p=reject"],
    ("reject.test", "A"): ["192.0.2.1"],
    ("quarantine.test", "A"): ["192.0.2.1"],
    ("pass.test", "A"): ["192.0.2.1"],
    ("s._domainkey.signed.test", "TXT"): [RECORD],
}


# SpamAssassin counts hours that it is off
DATE = email.utils.formatdate().encode()


def mail(subject, body=b"hello\r\n", domain=b"from.test"):
    return (b"From: Anna <anna@" + domain + b">\r\nTo: Bo <b@to.test>\r\n"
            b"Date: " + DATE + b"\r\n"
            b"Message-ID: <1." + domain + b">\r\nSubject: " + subject +
            b"\r\nX-Dup: 1\r\nX-Dup: 2\r\nX-Dup: 3\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain\r\n\r\n" + body)


SIGN_ME = (b"From: Anna <anna@signed.test>\r\nTo: Bo <b@to.test>\r\n"
           b"Date: " + DATE + b"\r\n"
           b"Message-ID: <1@signed.test>\r\nSubject:  two blanks\r\n"
           b"X-Fold: a\r\n\tb\r\n\r\nhello\r\n.\r\n..\r\n\r\n")


def broken(signed):
    assert signed.count(b"hello") == 1
    return signed.replace(b"hello", b"hullo")


def dkim_result(message):
    found = re.findall(rb"^Authentication-Results: gate.test;\s+dkim=(\w+)",
                       message.content, re.M)
    assert len(found) == 1, message.content
    return found[0]


def envelope(c, sender, *rcpts):
    for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{r}>" for r in rcpts)):
        got = c.say(line)
        assert got.startswith("250 "), (line, got)


def check_macros(b, c, seen, known):
    """All that the filter needs came, with the values that are known."""
    known = {**known, "j": "gate.test", "v": "Milldam",
             # as the hosts file has it
             "_": ("localhost " if seen["client_name"] == "localhost" else
                   "") + "[127.0.0.1]",
             "daemon_name": b.name + "0", "daemon_addr": "127.0.0.1",
             "daemon_port": str(b.listen[0]), "if_addr": "127.0.0.1",
             "client_addr": "127.0.0.1", "client_port": str(c.sock.getsockname()[1]),
             "mail_host": "from.test", "mail_mailer": "esmtp",
             "rcpt_mailer": "esmtp", "msg_id": "<1.from.test>",
             "r": "ESMTP", "s": "client.test"}
    for name in b.needs:
        value = seen.get(name)
        assert value, (name, seen)
        assert value == known.get(name, value), (name, seen)


def field(text, name):
    return re.search(rf"^{name}: ((?:.*\r\n[ \t])*.*)\r$", text, re.M)[1]


def words(text):
    """NAME=VALUE;..."""
    return dict(w.strip().split("=", 1) for w in text.split(";") if "=" in w)


def seen(message):
    """X-Seen's words and the other fields and body, of allactions."""
    head, body = without_trace(message.content).split(b"\r\n\r\n", 1)
    fields = re.split(rb"\r\n(?![ \t])", head)
    words = [f for f in fields if f.startswith(b"X-Seen:")]
    return words[0].split()[1:], fields, body


box = {b.name: b for b in BOXES}


@tap.test("python3-milter: every reply at every step")
def _():
    b = box["allactions"]
    for kw, want in (
            ({"rcpts": ["reject@to.test"]}, "550 5.7.1 Command rejected"),
            ({"rcpts": ["tempfail@to.test"]}, "451 4.7.1"),
            ({"rcpts": ["later@to.test"]}, "450 4.7.1 come back later"),
            ({"rcpts": ["percent@to.test"]}, "551 5.7.1 not here %x 100% "),
            ({"rcpts": ["lines@to.test"]},
             "550-5.7.1 one\n550-5.7.1 two\n550 5.7.1 three"),
            ({"sender": "reject@from.test"}, "550 5.7.1"),
            ({"sender": "tempfail@from.test"}, "451 4.7.1")):
        got = b.send(mail(b"x"), **kw)
        assert got.startswith(want), (kw, got)
    for subject, want in ((b"HDRREJECT", "550"), (b"EOHTEMPFAIL", "451"),
                          (b"BODYREJECT", "550"), (b"REJECT", "550"),
                          (b"TEMPFAIL", "451"),
                          (b"REPLY554", "554 5.6.0 content refused"),
                          (b"ADD BODY ADDRCPT REJECT", "550")):
        got = b.send(mail(subject))
        assert got.startswith(want), (subject, got)
    c = b.client()
    c.say("EHLO reject.test")
    c.say("MAIL FROM:<a@from.test>")
    assert c.say("RCPT TO:<b@to.test>").startswith("550 5.7.1")
    n = len(sink.messages)
    for subject, kw in ((b"DISCARD", {}), (b"x", {"sender": "discard@f.test"}),
                        (b"x", {"rcpts": ["b@to.test", "discard@to.test"]})):
        assert b.send(mail(subject), **kw).startswith("250 ")
    m = b.passes(mail(b"last"), rcpts=["b@to.test", "reject@to.test",
                                       "c@to.test"])
    assert len(sink.messages) == n + 1
    assert m.rcpts == ["b@to.test", "c@to.test"], m.rcpts
    words, _, _ = seen(m)
    assert words == [b"client.test", b"<a@from.test>", b"3", b"10", b"7",
                     b"True"], words
    for kw in ({"sender": "accept@from.test"}, {"rcpts": ["accept@to.test"]}):
        m = b.passes(mail(b"ADD"), **kw)
        assert without_trace(m.content) == mail(b"ADD"), m.content


@tap.test("python3-milter: every change")
def _():
    b = box["allactions"]
    _, fields, _ = seen(b.passes(mail(b"ADD CHANGE PROGRESS")))
    assert fields[-2:] == [b"X-Added: one", b"X-Added: two\r\n\tfolded"]
    assert fields[5:8] == [b"X-Dup: 1", b"X-Dup: changed", b"X-Dup: 3"], fields
    _, fields, _ = seen(b.passes(mail(b"DELETE")))
    assert fields[5:7] == [b"X-Dup: 2", b"X-Dup: 3"], fields
    m = b.passes(mail(b"INSERT"))
    lines = re.split(rb"\r\n(?![ \t])", m.content)
    assert lines[0] == b"X-First: at the top", lines
    assert lines[1].startswith(b"Received:"), lines
    assert lines[3] == b"X-Third: at three", lines
    _, _, body = seen(b.passes(mail(b"BODY")))
    assert body == b"replaced\r\nin two pieces\r\n", body
    _, _, body = seen(b.passes(mail(b"BIGBODY", b"y\r\n" * 100000)))
    assert body == (b"0123456789" * 90 + b"\r\n") * 64
    words, _, body = seen(b.passes(mail(b"BODYSKIP", b"y\r\n" * 100000)))
    assert int(words[4]) == 65535 and body == b"y\r\n" * 100000, words
    m = b.passes(mail(b"ADDRCPT DELRCPT FROM"))
    assert sorted(m.rcpts) == ["added@to.test", "par@to.test"], m.rcpts
    assert m.sender == "changed@from.test"
    q = b.held(mail(b"HOLD ADD"))
    assert q["reason"] == "held by allactions", q
    assert b.send(mail(b"HOLD REJECT")).startswith("550 ")


@tap.test("opendmarc: rejects, quarantines and tags by policy")
def _():
    b = box["opendmarc"]

    def judged(spf, domain):
        """As the SPF filter before it in a chain would have it."""
        return {"content": b"Authentication-Results: gate.test; spf=" + spf +
                b" smtp.mailfrom=" + domain + b"\r\n" +
                mail(b"x", domain=domain), "sender": f"a@{domain.decode()}"}
    got = b.send(**judged(b"fail", b"reject.test"))
    assert got.startswith("550 5.7.1 "), got
    assert "reject.test" in got, got
    q = b.held(**judged(b"fail", b"quarantine.test"))
    assert "quarantine.test" in q["reason"], q
    m = b.passes(**judged(b"pass", b"pass.test"))
    assert re.search(rb"^Authentication-Results: gate.test; dmarc=pass",
                     m.content, re.M), m.content


@tap.test("clamav-milter: rejects, holds or drops a virus, tags what is clean")
def _():
    b = box["clamav"]
    virus = mail(b"v", EICAR + b"\r\n")
    got = b.send(virus)
    assert got.startswith("5") and "Eicar-Test-Signature" in got, got
    assert b.send(eicar_mail()) == got
    q = b.held(virus, 1)
    assert q["reason"] == "quarantined by clamav-milter", q
    n = len(sink.messages)
    assert b.send(virus, 2).startswith("250 ")
    for i in range(3):
        m = b.passes(mail(b"clean"), i)
        assert b"X-Virus-Status: Clean" in m.content, m.content
    m = b.passes(mail(b"big", b"0123456789abcde\r\n" * 60000))
    assert m.content.endswith(b"0123456789abcde\r\n" * 60000)
    assert len(sink.messages) == n + 4


@tap.test("spamass-milter: rejects spam, tags the rest")
def _():
    b = box["spamass"]
    got = b.send(mail(b"gtube", GTUBE + b"\r\n"))
    assert got.startswith("550 5.7.1 "), got
    m = b.passes(mail(b"ham"))
    assert b"X-Spam-Checker-Version: SpamAssassin" in m.content, m.content
    assert b"X-Spam-Status: No" in m.content, m.content
    assert m.content.endswith(b"\r\n\r\nhello\r\n")


@tap.test("mimedefang: its replies and changes")
def _():
    b = box["mimedefang"]
    for kw, want in (({"sender": "bad@from.test"}, "554 5.7.1 sender ref"),
                     ({"rcpts": ["later@to.test"]}, "451 4.3.0 not yet"),
                     ({"rcpts": ["nobody@to.test"]}, "554 5.7.1 no such")):
        got = b.send(mail(b"x"), **kw)
        assert got.startswith(want), (kw, got)
    got = b.send(mail(b"bounce"))
    assert got.startswith("554 5.7.1 refused by filter"), got
    n = len(sink.messages)
    assert b.send(mail(b"discard")).startswith("250 ")
    m = b.passes(mail(b"tag copy sender"))
    assert len(sink.messages) == n + 1
    assert m.rcpts == ["b@to.test", "copy@to.test"], m.rcpts
    assert m.sender == "changed@from.test"
    assert b"\r\nX-MD: " in m.content, m.content
    assert b"\r\nSubject: [MD] tag copy sender\r\n" in m.content, m.content
    m = b.passes(mail(b"drop"), rcpts=["b@to.test", "c@to.test"])
    assert m.rcpts == ["c@to.test"], m.rcpts
    attached = eicar_mail().replace(b"x.com", b"x.exe")
    m = b.passes(attached)
    assert b"x.exe was dropped" in m.content or \
        b"dropped x.exe" in m.content, m.content


@tap.test("rspamd: answers at the end of message only")
def _():
    b = box["rspamd"]
    got = b.send(mail(b"gtube", GTUBE + b"\r\n"))
    assert got.startswith("554 5.7.1 ") and "Gtube" in got or \
        "Spam message rejected" in got, got
    m = b.passes(mail(b"ham"))
    assert b"X-Spamd-Bar" in m.content or b"X-Spam" in m.content, m.content
    c = b.client()  # two messages of one session
    n = len(sink.messages)
    for i in range(2):
        assert c.send(mail(b"ham"), ehlo=i == 0).startswith("250 ")
    assert len(sink.wait(n + 2)) == n + 2


@tap.test("pyspf-milter: rejects by SPF, tags the rest")
def _():
    b = box["pyspf"]  # to it every client on 127/8 passes
    got = b.client(address="192.0.2.9").send(
        mail(b"x"), sender="a@reject.test")
    assert got.startswith("550 5.7."), got
    assert "reject.test" in got, got
    c = b.client(address="192.0.2.9")
    for i in range(2):
        n = len(sink.messages)
        got = c.send(mail(b"x"), sender="a@pass.test", ehlo=i == 0)
        assert got.startswith("250 "), got
        m = sink.wait(n + 1)[n]
        assert re.search(rb"^Authentication-Results: \S+; spf=pass",
                         m.content, re.M), m.content
        assert b"192.0.2.9" in m.content, m.content


@tap.test("connections of filters on libmilter served many sessions")
def _():
    reused = {}
    for process in gate.ctl_json("status")["processes"]:
        for m in process.get("info", {}).get("milters", []):
            reused[m["name"]] = m["reused"]
    assert reused["allactions0"] > 5, reused
    assert reused["rspamd0"] == 0, reused


@tap.test("Sendmail::PMilter: a Perl filter without libmilter")
def _():
    b = box["pmilter"]
    c = b.client()
    n = len(sink.messages)
    assert c.send(mail(b"discard")).startswith("250 ")
    got = c.send(mail(b"x"), rcpts=["nobody@to.test"], ehlo=False)
    assert got == "550 5.1.1 no such user", got
    assert c.say("RSET").startswith("250")
    assert c.send(mail(b"copy"), ehlo=False).startswith("250 ")
    m = sink.wait(n + 1)[n]
    assert b"\r\nX-Perl: 7 " in m.content, m.content
    assert b"\r\nSubject: [perl] copy\r\n" in m.content, m.content
    assert m.rcpts == ["b@to.test", "copy@to.test"], m.rcpts
    m = b.passes(mail(b"body", b"x" * 900 + b"\r\n" + b"y\r\n" * 50000))
    assert m.content.endswith(b"\r\n\r\nnew\r\n"), m.content[-200:]
    assert b"\r\nX-Perl: 150902 " in m.content, m.content


@tap.test("opendkim: signs, and verifies what it signed")
def _():
    b = box["opendkim"]
    signed = b.passes(SIGN_ME).content
    assert signed.count(b"DKIM-Signature:") == 1, signed
    assert without_trace(signed[signed.index(b"Received:"):]) == SIGN_ME
    asked = b.passes(SIGN_ME, 2).content
    assert asked.count(b"DKIM-Signature:") == 1, asked
    for content, want in ((signed, b"pass"), (asked, b"pass"),
                          (broken(signed), b"fail"), (SIGN_ME, b"none")):
        m = b.passes(content, 1)
        assert dkim_result(m) == want, (want, m.content)
        assert m.content.endswith(content), m.content
    got = b.send(broken(signed), 3)
    assert got.startswith("550 5.7.0 bad DKIM signature data"), got


def pipelined(b, listener):
    signed = b.passes(SIGN_ME).content
    mails = [b"X-Number: %d\r\n" % i + content for i, content in enumerate(
        [signed, broken(signed), SIGN_ME, signed, broken(signed)])]
    n = len(sink.messages)
    c = b.client(listener)
    c.say("EHLO client.test")
    start = b"MAIL FROM:<a@f.test>\r\nRCPT TO:<b@to.test>\r\nDATA\r\n"
    c.sock.sendall(start)
    for i, content in enumerate(mails):
        got = [c.reply() for _ in range(3)]
        assert [g[:3] for g in got] == ["250", "250", "354"], got
        # the next one's commands leave with the end of this one
        c.sock.sendall(stuff(content) + b".\r\n" +
                       (start if i + 1 < len(mails) else b"QUIT\r\n"))
        assert c.reply().startswith("250 ")
    assert c.reply().startswith("221 ")
    arrived = {field(m.content.decode(), "X-Number"): dkim_result(m)
               for m in sink.wait(n + len(mails))[n:]}
    got = [arrived.get(str(i)) for i in range(len(mails))]
    assert got == [b"pass", b"fail", b"none", b"pass", b"fail"], got


for i, how in (1, "after"), (4, "ahead of"):
    @tap.test("opendkim: verifies message after message, pipelined, "
              f"commands {how} answers")
    def _(listener=i):
        pipelined(box["opendkim"], listener)


for b in BOXES:
    @tap.test(f"{b.name}: two messages, RSETs, and the macros it needs")
    def _(b=b):
        heard = b.taps[0]
        done, aborted = len(heard.messages), len(heard.aborted)
        n = len(sink.messages)
        c = b.client()
        c.say("EHLO client.test")
        for number in range(2):
            envelope(c, f"no{number}@from.test", "no@to.test")
            assert c.say("RSET").startswith("250 ")
            c.say("MAIL FROM:<never@from.test>")
            assert c.say("RSET").startswith("250 ")
            rcpts = [f"{k}.{number}@to.test" for k in "bcd"[number:]]
            envelope(c, f"a{number}@from.test", *rcpts)
            got = c.say(b"DATA\r\n" + mail(b"two") + b".")
            got = c.reply()
            assert got.startswith("250 "), got
            check_macros(b, c, heard.messages[done + number], {
                "i": got.split()[2], "mail_addr": f"a{number}@from.test",
                "rcpt_addr": rcpts[-1], "nrcpts": str(len(rcpts))})
        msgs = sorted(sink.wait(n + 2)[n:], key=lambda m: m.sender)
        assert [m.sender for m in msgs] == ["a0@from.test", "a1@from.test"]
        assert [m.rcpts for m in msgs] == [
            ["b.0@to.test", "c.0@to.test", "d.0@to.test"],
            ["c.1@to.test", "d.1@to.test"]]
        assert msgs[1].content.endswith(b"\r\n\r\nhello\r\n")
        # only what it was told of is taken back
        assert len(heard.messages) == done + 2
        assert len(heard.aborted) == aborted + 2, heard.commands


@tap.test("what the filters say of the macros that they got")
def _():
    def sent(name, i=0, content=mail(b"x"), **kw):
        """The queue id, and what arrived."""
        n = len(sink.messages)
        got = box[name].send(content, i, **kw)
        got = got.split()[2]
        return got, sink.wait(n + 1)[n].content.decode()
    ident, text = sent("allactions")
    told = words(field(text, "X-Macros"))
    for name, value in box["allactions"].taps[0].messages[-1].items():
        assert told[name] == value, (name, value, told)
    assert told["auth_authen"] == told["tls_version"] == "None", told
    ident, text = sent("mimedefang")
    told = words(field(text, "X-MD"))
    for name in box["mimedefang"].needs:
        value = box["mimedefang"].taps[0].messages[-1][name]
        assert told.get(name) == value, (name, value, told)
    ident, text = sent("pmilter")
    assert re.search(rf"X-Perl: 7 {ident} {ident} gate.test \S* ?\[127.0.0.1\] "
                     "pmilter0 a@from.test", text), text
    ident, text = sent("rspamd")
    # the gateway's name is to rspamd what Postfix says in {daemon_name}
    assert "\r\nAuthentication-Results: rspamd0;" in text, text
    box["rspamd"].logged(f"qid: <{ident}>.* ip: 127.0.0.1, from: <a@from.test>")
    ident, _ = sent("opendkim", content=SIGN_ME)
    box["opendkim"].logged(f"{ident}: DKIM-Signature field added")
    ident, text = sent("opendkim", 1)
    assert "Authentication-Results: gate.test;" in text, text
    box["opendkim"].logged(
        rf"{ident}: no MTA name match \(host=gate.test, MTA=opendkim1\)")
    asked = box["opendkim"].taps[2].asked()
    assert asked == ["auth_type", "daemon_name", "i"], asked
    ident, text = sent("opendmarc")
    assert "Authentication-Results: gate.test;" in text, text
    box["opendmarc"].logged(f"{ident}: from.test none")
    ident, _ = sent("clamav")
    box["clamav"].logged(f"Clean message {ident} from <a@from.test> "
                         "to <b@to.test>")
    ident, _ = sent("spamass")
    box["spamass"].logged(
        r"for spamc: Received: from client.test \(.*\[127.0.0.1\]\)\s+"
        rf"by gate.test \(Milldam/[0-9.a-z-]+\) with ESMTP id {ident}\s")
    sent("pyspf")  # which reads none without a login
    box["pyspf"].logged("spf=none .* envelope-from=a@from.test")


@tap.test("docs/milter.md has the table of what was seen here")
def _():
    with open(TOP + "/docs/milter.md") as f:
        lines = [[w.strip() for w in line.strip().strip("|").split("|")]
                 for line in f if line.startswith("|")]
    missing = []
    for b in BOXES:
        row = b.row()
        if not any(line[2:2 + len(row)] == row for line in lines):
            missing.append(f"| {b.name} | package | {' | '.join(row)} | |")
    for line in missing:
        print("# " + line)
    assert not missing


for b in BOXES:
    unpack(b.name, b.packages)
own_network()  # resolvers of the C library know no port but 53
subprocess.run(["ip", "address", "add", "192.0.2.9/32", "dev", "lo"],
               check=True)
sink = Sink()
dns = NameServer(ZONE, port=53)
Box.sink = sink
Box.gate = gate = Gateway(sink.port, extra="".join(b.conf() for b in BOXES),
               access="relay-networks = {127.0.0.0/8, 192.0.2.9}\n")
only = sys.argv[1:]
if only:
    tap.cases = [c for c in tap.cases if any(w in c[0] for w in only)]
    BOXES = [b for b in BOXES if any(b.name in w or w in b.name
                                     for w in only)]
try:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda b: b.start(f"{gate.dir}/{b.name}"), BOXES):
            pass
    with gate:
        tap.run()
finally:
    for b in BOXES:
        b.stop()
    gate.remove()
    sink.close()
    dns.close()
