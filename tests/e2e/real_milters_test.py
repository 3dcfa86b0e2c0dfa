# SPDX-License-Identifier: ISC
# slow
"""real_milters - filters that nobody here wrote, from Debian's packages

Each runs boxed, with a policy and a listener of its own in one gateway.  What
each answered to a full offer is printed, so that docs/milter.md can be checked.
"""
import concurrent.futures
import os
import re
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from fakemilter import packet  # noqa: E402
from gateway import (TOP, Gateway, Tap, free_port,  # noqa: E402
                     wait_for, without_trace)
from mails import EICAR, eicar_mail, stranger  # noqa: E402
from mta import program  # noqa: E402
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
}


def mail(subject, body=b"hello\r\n", domain=b"from.test"):
    return (b"From: Anna <anna@" + domain + b">\r\nTo: Bo <b@to.test>\r\n"
            b"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
            b"Message-ID: <1." + domain + b">\r\nSubject: " + subject +
            b"\r\nX-Dup: 1\r\nX-Dup: 2\r\nX-Dup: 3\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain\r\n\r\n" + body)


class Box:
    """A filter of some packages: a script that starts it on $PORT, seen at
    once or as soon as it listens; files: {name: text} beside the script, with
    @DIR@, @PORT@ (and @PORT1@ ...) and @DNS@ filled in."""

    def __init__(self, name, packages, script, files=None, ports=1,
                 may="all", library="libmilter"):
        self.name = name
        self.packages = packages
        self.script = script
        self.files = files or {}
        self.ports = [free_port() for _ in range(ports)]
        self.listen = [free_port() for _ in range(ports)]
        self.may = may
        self.library = library
        self.box = None

    def conf(self):
        return "".join(
            f'milter "{self.name}{i}" {{ endpoints = '
            f'{{ "inet:{p}@127.0.0.1" }} may = {{ {self.may} }} '
            f'library = {self.library} }}\n'
            f'policy "{self.name}{i}" {{ authorise = "access" '
            f'chain = {{ "{self.name}{i}" }} }}\n'
            f'listener "{self.name}{i}" {{ policy = "{self.name}{i}" '
            f'address = {{ "127.0.0.1:{self.listen[i]}" }} }}\n'
            for i, p in enumerate(self.ports))

    def start(self, folder):
        os.makedirs(folder)
        os.chmod(folder, 0o755)
        for name, text in {**self.files, "start": "set -eu\n" +
                           self.script}.items():
            for i, p in reversed(list(enumerate(self.ports))):
                text = text.replace(f"@PORT{i or ''}@", str(p))
            text = text.replace("@DIR@", folder).replace(
                "@DNS@", "127.0.0.1").replace("@TOP@", TOP)
            with open(f"{folder}/{name}", "w") as f:
                f.write(text)
        self.box = program(self.name, self.packages,
                           f"bash {folder}/start", self.ports[0])
        for p in self.ports:
            with wait_for(lambda p=p: connected(p), 30) as s:
                print(f"# {self.name}: {negotiated(s)}", flush=True)
        return self

    def client(self, i=0, address="127.0.0.1"):
        return stranger(gate, address, self.listen[i])

    def send(self, content, i=0, **kw):
        c = self.client(i)
        got = c.send(content, **kw)
        c.close()
        return got

    def passes(self, content, i=0, **kw):
        """What arrives."""
        n = len(sink.messages)
        got = self.send(content, i, **kw)
        assert got.startswith("250 "), got
        msgs = sink.wait(n + 1)
        assert len(msgs) == n + 1, len(msgs) - n
        return msgs[-1]

    def held(self, content, i=0, **kw):
        """Where the queue holds it."""
        before = {m["id"] for m in gate.ctl_json("queue", "list")}
        got = self.send(content, i, **kw)
        assert got.startswith("250 "), got
        new = [m for m in gate.ctl_json("queue", "list")
               if m["id"] not in before]
        assert [m["state"] for m in new] == ["held"], new
        return new[0]


def connected(port):
    try:
        return socket.create_connection(("127.0.0.1", port), 5)
    except OSError:
        return None


def negotiated(sock):
    """What it answers to the offer that Milldam makes."""
    sock.settimeout(20)
    sock.sendall(packet(b"O", struct.pack(">III", 6, 0x1ff, 0x1fffff)))
    got = b""
    while len(got) < 17:
        more = sock.recv(1000)
        if not more:
            return "closed the connection"
        got += more
    version, actions, protocol = struct.unpack(">III", got[5:17])
    lists = re.findall(rb"[ -~]{3,}", got[17:])
    sock.sendall(packet(b"Q"))
    return (f"version {version}, actions {actions:#x}, protocol "
            f"{protocol:#x}, macros {[m.decode() for m in lists]}")


def seen(message):
    """X-Seen's words and the other fields and body, of allactions."""
    head, body = without_trace(message.content).split(b"\r\n\r\n", 1)
    fields = re.split(rb"\r\n(?![ \t])", head)
    words = [f for f in fields if f.startswith(b"X-Seen:")]
    return words[0].split()[1:], fields, body


BOXES = [
    Box("allactions", ["python3-milter"], """
exec /usr/bin/python3 @TOP@/tests/lib/allactions.py inet:@PORT@@127.0.0.1
"""),
    Box("opendmarc", ["opendmarc", "publicsuffix"], """
echo "nameserver @DNS@" >/etc/resolv.conf
exec opendmarc -c @DIR@/conf -f
""", {"conf": """Socket inet:@PORT@@127.0.0.1
AuthservID gate.test
TrustedAuthservIDs gate.test
RejectFailures true
HoldQuarantinedMessages true
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
Background false
Syslog false
IgnoreHosts /dev/null
HistoryFile @DIR@/history
"""}, may="add-header, quarantine"),
    Box("clamav", ["clamav-milter", "clamav-daemon"], """
mkdir -p @DIR@/db
printf 'Eicar-Test-Signature:0:*:%s\\n' "$(cat @DIR@/hex)" >@DIR@/db/t.ndb
clamd -c @DIR@/clamd.conf &
while [ ! -S @DIR@/clamd.sock ]; do sleep 0.1; done
start() { # PORT ACTION
	cat >@DIR@/$2.conf <<-X
	MilterSocket inet:$1@127.0.0.1
	ClamdSocket unix:@DIR@/clamd.sock
	Foreground yes
	User root
	OnInfected $2
	OnClean Accept
	OnFail Defer
	AddHeader Replace
	ReportHostname gate.test
	TemporaryDirectory @DIR@
	X
	[ $2 != Reject ] || echo 'RejectMsg virus %v found' >>@DIR@/$2.conf
	clamav-milter -c @DIR@/$2.conf &
}
start @PORT@ Reject
start @PORT1@ Quarantine
start @PORT2@ Blackhole
wait
""", {"hex": EICAR.hex(), "clamd.conf": """LocalSocket @DIR@/clamd.sock
DatabaseDirectory @DIR@/db
TemporaryDirectory @DIR@
Foreground yes
User root
"""}, ports=3),
    Box("spamass", ["spamass-milter", "spamassassin", "spamd", "spamc"], """
mkdir -p @DIR@/etc
cp /etc/spamassassin/*.pre @DIR@/etc/
printf 'use_bayes 0\\nskip_rbl_checks 1\\ndns_available no\\n' >@DIR@/etc/local.cf
spamd -L -x --siteconfigpath=@DIR@/etc -i --socketpath=@DIR@/spamd.sock -m 2 \
    -s stderr &
while [ ! -S @DIR@/spamd.sock ]; do sleep 0.1; done
exec spamass-milter -p inet:@PORT@@127.0.0.1 -r 15 -- -U @DIR@/spamd.sock
"""),
    Box("mimedefang", ["mimedefang", "libnet-dns-perl"], """
echo "defang:x:7301:" >>/etc/group
echo "defang:x:7301:7301::/:/bin/false" >>/etc/passwd
mkdir -p @DIR@/spool @DIR@/quarantine
chown -R defang @DIR@
mimedefang-multiplexor -D -U defang -m 1 -x 2 -f /usr/bin/mimedefang.pl \
    -F @DIR@/filter -z @DIR@/spool -s @DIR@/mx.sock &
while [ ! -S @DIR@/mx.sock ]; do sleep 0.1; done
exec mimedefang -D -U defang -m @DIR@/mx.sock -z @DIR@/spool -r -s -t \
    -p inet:@PORT@@127.0.0.1
""", {"filter": r"""
$AdminAddress = $DaemonAddress = 'postmaster@gate.test';
$AddWarningsInline = 0;
sub filter_relay { return ('CONTINUE', 'ok'); }
sub filter_sender { my ($s) = @_;
  return $s =~ /bad\@/ ? ('REJECT', 'sender refused') : ('CONTINUE', 'ok'); }
sub filter_recipient { my ($r) = @_;
  return ('TEMPFAIL', 'not yet') if $r =~ /later\@/;
  return ('REJECT', 'no such user') if $r =~ /nobody\@/;
  return ('CONTINUE', 'ok'); }
sub filter_begin {
  return action_discard() if $Subject =~ /discard/;
  return action_bounce('refused by filter') if $Subject =~ /bounce/; }
sub filter { my ($entity, $fname, $ext) = @_;
  return action_drop_with_warning("dropped $fname") if $ext =~ /^\.exe$/i;
  return action_accept(); }
sub filter_end {
  action_add_header('X-MD', 'ok');
  action_change_header('Subject', "[MD] $Subject") if $Subject =~ /tag/;
  add_recipient('<copy@to.test>') if $Subject =~ /copy/;
  delete_recipient('<b@to.test>') if $Subject =~ /drop/;
  change_sender('<changed@from.test>') if $Subject =~ /sender/; }
1;
"""}),
    Box("rspamd", ["rspamd"], """
echo "_rspamd:x:7302:" >>/etc/group
echo "_rspamd:x:7302:7302::/:/bin/false" >>/etc/passwd
mkdir -p @DIR@/conf/override.d @DIR@/conf/local.d @DIR@/db @DIR@/run @DIR@/log
for m in asn rbl dmarc greylist ratelimit fuzzy_check neural history_redis \
    mx_check replies bayes url_redirector phishing reputation dcc p0f spf arc \
    surbl maillist multimap; do
	echo 'enabled = false;' >@DIR@/conf/override.d/$m.conf
done
cat >@DIR@/conf/local.d/milter_headers.conf <<X
use = ["x-spamd-bar", "x-spam-level"];
extended_spam_headers = true; skip_local = false;
X
cp -r /etc/rspamd/maps.d @DIR@/conf/
chown -R _rspamd @DIR@
exec rspamd -f -u _rspamd -g _rspamd -c @DIR@/rspamd.conf \
    --var=LOCAL_CONFDIR=@DIR@/conf --var=DBDIR=@DIR@/db \
    --var=RUNDIR=@DIR@/run --var=LOGDIR=@DIR@/log
""", {"rspamd.conf": """
.include "$CONFDIR/common.conf"
options { pidfile = "@DIR@/run/rspamd.pid"; .include "$CONFDIR/options.inc"
  filters = "chartable,dkim,regexp"; dns { nameserver = ["@DNS@:53:1"]; }
  gtube_patterns = "all"; control_socket = "@DIR@/run/ctl mode=0600"; }
logging { type = "console"; .include "$CONFDIR/logging.inc" }
worker "rspamd_proxy" { bind_socket = "127.0.0.1:@PORT@"; count = 1;
  milter = yes; timeout = 60s; spam_header = "X-Spam";
  reject_message = "Spam message rejected";
  upstream "local" { default = yes; self_scan = yes; } }
"""}, library="other"),
    Box("pyspf", ["pyspf-milter"], """
echo "nameserver @DNS@" >/etc/resolv.conf
echo "pyspf-milter:x:7303:" >>/etc/group
echo "pyspf-milter:x:7303:7303::/:/bin/false" >>/etc/passwd
chown -R pyspf-milter @DIR@
exec pyspf-milter @DIR@/conf
""", {"conf": """debugLevel = 1
Socket = inet:@PORT@@127.0.0.1
PidFile = @DIR@/pid
UserID = pyspf-milter
skip_addresses = 192.0.2.99/32
InternalHosts = 192.0.2.99
HELO_reject = False
Mail_From_reject = Fail
Header_Type = AR
"""}, may="add-header"),
    Box("pmilter", ["libsendmail-pmilter-perl"], "exec perl @DIR@/filter\n",
        {"filter": r"""
use Sendmail::PMilter qw(:all);
my ($subject, $size, $id);
my $m = Sendmail::PMilter->new;
$m->setconn('inet:@PORT@@127.0.0.1');
$m->register('pmilter', {
  envfrom => sub { my ($ctx) = @_; $id = $ctx->getsymval('i'); $size = 0;
    return SMFIS_CONTINUE; },
  envrcpt => sub { my ($ctx, $rcpt) = @_;
    return SMFIS_CONTINUE unless $rcpt =~ /nobody@/;
    $ctx->setreply(550, '5.1.1', 'no such user');
    return SMFIS_REJECT; },
  header => sub { my ($ctx, $name, $value) = @_;
    $subject = $value if lc($name) eq 'subject'; return SMFIS_CONTINUE; },
  body => sub { $size += length($_[1]); return SMFIS_CONTINUE; },
  eom => sub { my ($ctx) = @_;
    return SMFIS_DISCARD if $subject eq 'discard';
    $ctx->addheader('X-Perl', "$size " . ($id eq $ctx->getsymval('i')));
    $ctx->chgheader('Subject', 1, "[perl] $subject");
    $ctx->addrcpt('<copy@to.test>') if $subject eq 'copy';
    $ctx->replacebody("new\r\n") if $subject eq 'body';
    return SMFIS_ACCEPT; },
}, SMFI_CURR_ACTS);
$m->set_dispatcher(Sendmail::PMilter::postfork_dispatcher());
$m->main();
"""}, library="other"),
]
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
    assert b"X-MD: ok" in m.content, m.content
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
    assert b"\r\nX-Perl: 7 1\r\n" in m.content, m.content
    assert b"\r\nSubject: [perl] copy\r\n" in m.content, m.content
    assert m.rcpts == ["b@to.test", "copy@to.test"], m.rcpts
    m = b.passes(mail(b"body", b"x" * 900 + b"\r\n" + b"y\r\n" * 50000))
    assert m.content.endswith(b"\r\n\r\nnew\r\n"), m.content[-200:]
    assert b"\r\nX-Perl: 150902 1\r\n" in m.content, m.content


for b in BOXES:
    unpack(b.name, b.packages)
own_network()  # resolvers of the C library know no port but 53
subprocess.run(["ip", "address", "add", "192.0.2.9/32", "dev", "lo"],
               check=True)
sink = Sink()
dns = NameServer(ZONE, port=53)
gate = Gateway(sink.port, extra="".join(b.conf() for b in BOXES),
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
        if b.box is not None:
            b.box.stop()
    gate.remove()
    sink.close()
    dns.close()
