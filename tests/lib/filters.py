# SPDX-License-Identifier: ISC
"""filters - filters that nobody here wrote, from Debian's packages

Each runs boxed, with a policy and a listener of its own in one gateway, and a
wiretap between the two, in a network of the test's own (netns.py): the ports
are below those that connections get, so that none is taken when it is wanted.
"""
import itertools
import os
import re
import socket

from dkimkey import dkim_key
from gateway import TOP, wait_for
from mails import EICAR, stranger
from mta import program
from wiretap import Wiretap

PORTS = itertools.count(2001)


class Box:
    """A filter of some packages: a script that starts it on $PORT, seen at
    once or as soon as it listens; files: {name: text} beside the script, with
    @DIR@, @PORT@ (and @PORT1@ ...) and @DNS@ filled in."""

    def __init__(self, name, packages, script, files=None, ports=1,
                 may="all", library="libmilter", needs="",
                 macros=""):
        """needs: the macros that it reads, but for those of TLS and login"""
        self.name = name
        self.packages = packages
        self.script = script
        self.files = files or {}
        self.ports = [next(PORTS) for _ in range(ports)]
        self.listen = [next(PORTS) for _ in range(ports)]
        self.may = may
        self.library = library
        self.needs = needs.split()
        self.macros = macros
        self.box = None
        self.taps = [Wiretap(p) for p in self.ports]

    def conf(self):
        return "".join(
            f'milter "{self.name}{i}" {{ endpoints = '
            f'{{ "inet:{t.port}@127.0.0.1" }} may = {{ {self.may} }} '
            f'library = {self.library} pipeline = {self.pipeline(i)} '
            f'{self.macros} }}\n'
            f'policy "{self.name}{i}" {{ authorise = "access" '
            f'chain = {{ "{self.name}{i}" }} }}\n'
            f'listener "{self.name}{i}" {{ policy = "{self.name}{i}" '
            f'address = {{ "127.0.0.1:{self.listen[i]}" }} }}\n'
            for i, t in enumerate(self.taps))

    def pipeline(self, i):
        """Commands ahead of answers, if that is allowed, to every other."""
        return "safe" if self.library == "other" or i % 2 else "full"

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
            wait_for(lambda p=p: connected(p), 30).close()
        return self

    def stop(self):
        for t in self.taps:
            t.close()
        if self.box is not None:
            self.box.stop()

    def logged(self, pattern):
        """What the filter logged, once a line matches."""
        assert wait_for(lambda: re.search(pattern, self.box.logged(), re.M),
                        10), f"{pattern} not in: {self.box.logged()[-3000:]}"

    def row(self):
        """What was seen of it, as the columns of the table."""
        version, actions, protocol = self.taps[0].answer()
        stages = [c for c in "CHMRTLNBE"
                  if any(c in t.commands for t in self.taps)]
        said = {w for t in self.taps for w in t.changes() + t.verdicts()}
        return [str(version), f"{actions:#x}", f"{protocol:#x}",
                " ".join(stages), ", ".join(sorted(said)),
                " ".join(self.needs)]

    def client(self, i=0, address="127.0.0.1"):
        return stranger(self.gate, address, self.listen[i])

    def send(self, content, i=0, **kw):
        c = self.client(i)
        got = c.send(content, **kw)
        c.close()
        return got

    def passes(self, content, i=0, **kw):
        """What arrives."""
        n = len(self.sink.messages)
        got = self.send(content, i, **kw)
        assert got.startswith("250 "), got
        msgs = self.sink.wait(n + 1)
        assert len(msgs) == n + 1, len(msgs) - n
        return msgs[-1]

    def held(self, content, i=0, **kw):
        """Where the queue holds it."""
        before = {m["id"] for m in self.gate.ctl_json("queue", "list")}
        got = self.send(content, i, **kw)
        assert got.startswith("250 "), got
        new = [m for m in self.gate.ctl_json("queue", "list")
               if m["id"] not in before]
        assert [m["state"] for m in new] == ["held"], new
        return new[0]


def connected(port):
    try:
        return socket.create_connection(("127.0.0.1", port), 5)
    except OSError:
        return None


KEY, RECORD = dkim_key()
DKIM_CONF = """Mode sv
Domain signed.test
Selector s
KeyFile @DIR@/key
Canonicalization relaxed/simple
InternalHosts csl:192.0.2.99
ResolverConfiguration @DIR@/unbound
AlwaysAddARHeader yes
Background no
Syslog yes
SyslogSuccess yes
LogWhy yes
RequireSafeKeys no
AutoRestart no
"""
BOXES = [
    # By the listener's name the first signs and the second verifies; the
    # third asks for a macro and signs by it; the next rejects bad signatures.
    Box("opendkim", ["opendkim"], """
echo "nameserver @DNS@" >/etc/resolv.conf
start() { # SOCKET-PORT LINE...
	{ cat @DIR@/conf; echo "Socket inet:$1@127.0.0.1"; } >@DIR@/conf.$1
	port=$1
	shift
	printf '%s\\n' "$@" >>@DIR@/conf.$port
	opendkim -x @DIR@/conf.$port -f &
}
start @PORT@ "MTA csl:opendkim0"
start @PORT1@ "MTA csl:opendkim0"
start @PORT2@ "MacroList daemon_name=opendkim2"
start @PORT3@ "On-BadSignature reject"
start @PORT4@
wait
""", {"conf": DKIM_CONF, "key": KEY, "unbound": """
server:
  do-not-query-localhost: no
  module-config: iterator
  local-zone: "test." nodefault
forward-zone:
  name: "."
  forward-addr: @DNS@
"""}, ports=5, needs="i j daemon_name"),
    Box("allactions", ["python3-milter"], """
exec /usr/bin/python3 @TOP@/tests/lib/allactions.py inet:@PORT@@127.0.0.1
""", needs="i j _ v daemon_name daemon_addr daemon_port if_name if_addr "
    "client_addr client_name client_port client_ptr client_resolve "
    "client_connections mail_mailer mail_host mail_addr rcpt_mailer rcpt_host "
    "rcpt_addr msg_id msg_size nrcpts"),
    Box("opendmarc", ["opendmarc", "publicsuffix"], """
echo "nameserver @DNS@" >/etc/resolv.conf
exec opendmarc -c @DIR@/conf -f
""", {"conf": """Socket inet:@PORT@@127.0.0.1
RejectFailures true
HoldQuarantinedMessages true
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
Background false
Syslog true
IgnoreHosts /dev/null
HistoryFile @DIR@/history
"""}, may="add-header, quarantine", needs="i j"),
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
	LogInfected Full
	LogClean Full
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
"""}, ports=3, needs="i mail_addr rcpt_addr"),
    Box("spamass", ["spamass-milter", "spamassassin", "spamd", "spamc"], """
mkdir -p @DIR@/etc
cp /etc/spamassassin/*.pre @DIR@/etc/
printf 'use_bayes 0\\nskip_rbl_checks 1\\ndns_available no\\n' >@DIR@/etc/local.cf
spamd -L -x --siteconfigpath=@DIR@/etc -i --socketpath=@DIR@/spamd.sock -m 2 \
    -s stderr &
while [ ! -S @DIR@/spamd.sock ]; do sleep 0.1; done
exec spamass-milter -p inet:@PORT@@127.0.0.1 -r 15 -d spamc,misc -- \\
    -U @DIR@/spamd.sock
""", needs="i j _ v b r s Z", macros='macros = {"rcpt=b r s Z"}'),
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
  read_commands_file();
  my ($to) = values %RecipientMailers;
  my @saw = map { "$_=$SendmailMacros{$_}" } sort keys %SendmailMacros;
  push @saw, "rcpt_$_=" . shift @$to foreach qw(mailer host addr);
  action_add_header('X-MD', join(';', @saw));
  action_change_header('Subject', "[MD] $Subject") if $Subject =~ /tag/;
  add_recipient('<copy@to.test>') if $Subject =~ /copy/;
  delete_recipient('<b@to.test>') if $Subject =~ /drop/;
  change_sender('<changed@from.test>') if $Subject =~ /sender/; }
1;
"""}, needs="i j _ daemon_name daemon_port if_name if_addr mail_mailer "
    "mail_host mail_addr rcpt_mailer rcpt_host rcpt_addr"),
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
use = ["x-spamd-bar", "x-spam-level", "authentication-results"];
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
"""}, library="other",
    needs="i j v daemon_name client_name rcpt_mailer"),
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
    $ctx->addheader('X-Perl', join ' ', $size, $id,
      map { $ctx->getsymval($_) } qw(i j _ {daemon_name} {mail_addr}));
    $ctx->chgheader('Subject', 1, "[perl] $subject");
    $ctx->addrcpt('<copy@to.test>') if $subject eq 'copy';
    $ctx->replacebody("new\r\n") if $subject eq 'body';
    return SMFIS_ACCEPT; },
}, SMFI_CURR_ACTS);
$m->set_dispatcher(Sendmail::PMilter::postfork_dispatcher());
$m->main();
"""}, library="other",
        needs="i j _ daemon_name mail_addr"),
]
