#!/bin/bash
# SPDX-License-Identifier: ISC
#
# mta.sh KIND - run a server inside the namespaces that mta.py made
#
# From the environment: ROOT (unpacked packages), DIR (private folder), PORT,
# SINK (next hop's port), MILTERS (sockets as that server spells them), ARGV.
set -eu

mount --make-rprivate /
hostname peer.test
mkdir -p "$DIR/etc-up" "$DIR/etc-work" "$DIR/spool" "$DIR/log" "$DIR/lib"
mount -t overlay -o "lowerdir=$ROOT/usr:/usr" overlay /usr
mount -t overlay \
    -o "lowerdir=$ROOT/etc:/etc,upperdir=$DIR/etc-up,workdir=$DIR/etc-work" \
    overlay /etc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
mount --bind "$DIR/spool" /var/spool
mount --bind "$DIR/log" /var/log
ldconfig 2>/dev/null || true
printf '127.0.0.1 localhost peer.test peer\n' >/etc/hosts
echo peer.test >/etc/hostname
echo peer.test >/etc/mailname
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >/etc/resolv.conf
printf 'passwd: files\ngroup: files\nhosts: files\nservices: files\naliases: files\n' \
    >/etc/nsswitch.conf

add_user() { # NAME ID HOME
	grep -q "^$1:" /etc/group || echo "$1:x:$2:" >>/etc/group
	grep -q "^$1:" /etc/passwd ||
	    echo "$1:x:$2:$2::$3:/usr/sbin/nologin" >>/etc/passwd
	grep -q "^$1:" /etc/shadow || echo "$1:*:19000::::::" >>/etc/shadow
}

postfix() {
	add_user postfix 7101 /var/spool/postfix
	add_user postdrop 7102 /var/spool/postfix
	mkdir -p /var/spool/postfix "$DIR/lib/postfix"
	chown postfix:postfix "$DIR/lib/postfix"
	rm -rf /etc/postfix/main.cf /etc/postfix/master.cf
	cat >/etc/postfix/main.cf <<-X
	compatibility_level = 3.6
	queue_directory = /var/spool/postfix
	command_directory = /usr/sbin
	daemon_directory = /usr/lib/postfix/sbin
	data_directory = $DIR/lib/postfix
	shlib_directory = /usr/lib/postfix
	meta_directory = /etc/postfix
	mail_owner = postfix
	setgid_group = postdrop
	myhostname = peer.test
	mydestination =
	local_recipient_maps =
	alias_maps =
	alias_database =
	inet_interfaces = 127.0.0.1
	inet_protocols = ipv4
	mynetworks = 0.0.0.0/0
	relayhost = [127.0.0.1]:$SINK
	smtpd_peername_lookup = no
	smtp_dns_support_level = disabled
	smtp_host_lookup = native
	smtpd_tls_security_level = none
	smtp_tls_security_level = none
	smtpd_relay_restrictions = permit_mynetworks, reject
	smtpd_recipient_restrictions = permit_mynetworks, reject
	smtpd_milters = $MILTERS
	maillog_file = /var/log/mail.log
	X
	cat >/etc/postfix/master.cf <<-X
	127.0.0.1:$PORT inet n - n - 100 smtpd
	cleanup   unix n - n - 0 cleanup
	qmgr      unix n - n 300 1 qmgr
	rewrite   unix - - n - - trivial-rewrite
	bounce    unix - - n - 0 bounce
	defer     unix - - n - 0 bounce
	trace     unix - - n - 0 bounce
	proxymap  unix - - n - - proxymap
	smtp      unix - - n - - smtp
	showq     unix n - n - - showq
	error     unix - - n - - error
	retry     unix - - n - - error
	anvil     unix - - n - 1 anvil
	scache    unix - - n - 1 scache
	postlog   unix-dgram n - n - 1 postlogd
	X
	/usr/sbin/postfix start-fg &
	wait
}

sendmail() {
	add_user smmta 7201 /var/lib/sendmail
	add_user smmsp 7202 /var/lib/sendmail
	mkdir -p /var/spool/mqueue /etc/mail /run/sendmail
	chmod 700 /var/spool/mqueue
	printf 'hosts files\naliases files\npasswd files\n' \
	    >/etc/mail/service.switch
	echo peer.test >/etc/mail/local-host-names
	{
	cat <<-X
	divert(-1)
	include(\`/usr/share/sendmail/cf/m4/cf.m4')dnl
	divert(0)
	OSTYPE(\`debian')dnl
	undefine(\`confHOST_STATUS_DIRECTORY')dnl
	undefine(\`ALIAS_FILE')dnl
	FEATURE(\`no_default_msa')dnl
	FEATURE(\`nocanonify')dnl
	FEATURE(\`promiscuous_relay')dnl
	FEATURE(\`accept_unresolvable_domains')dnl
	FEATURE(\`accept_unqualified_senders')dnl
	DAEMON_OPTIONS(\`Name=MTA, Family=inet, Addr=127.0.0.1, Port=$PORT')dnl
	define(\`confDOMAIN_NAME', \`peer.test')dnl
	define(\`confSERVICE_SWITCH_FILE', \`/etc/mail/service.switch')dnl
	define(\`confDONT_PROBE_INTERFACES', \`True')dnl
	define(\`confTO_IDENT', \`0s')dnl
	define(\`confQUEUE_LA', \`100000')dnl
	define(\`confREFUSE_LA', \`100000')dnl
	define(\`confPID_FILE', \`/run/sendmail/mta.pid')dnl
	define(\`QUEUE_DIR', \`/var/spool/mqueue')dnl
	define(\`STATUS_FILE', \`/run/sendmail/stats')dnl
	define(\`SMART_HOST', \`esmtp:[127.0.0.1]')dnl
	define(\`ESMTP_MAILER_ARGS', \`TCP \$h $SINK')dnl
	define(\`RELAY_MAILER_ARGS', \`TCP \$h $SINK')dnl
	X
	i=0
	for m in $MILTERS; do
		i=$((i + 1))
		echo "INPUT_MAIL_FILTER(\`m$i', \`S=$m, F=T')dnl"
	done
	echo "MAILER(\`smtp')dnl"
	} >/etc/mail/peer.mc
	(cd /usr/share/sendmail/cf/cf && m4 /etc/mail/peer.mc) \
	    >/etc/mail/sendmail.cf
	/usr/libexec/sendmail/sendmail -bD -q10m -C /etc/mail/sendmail.cf &
	wait
}

# command - any program of the unpacked packages.  Not by exec: the first
# process of the namespace must keep its user, or it would no longer end with
# the test.
command() {
	# its own /dev, for the sake of /dev/log
	for d in null zero full random urandom tty; do
		: >"$DIR/dev/$d"
		mount --bind "/dev/$d" "$DIR/dev/$d"
	done
	mkdir "$DIR/dev/shm"
	chmod 1777 "$DIR/dev/shm"
	ln -s /proc/self/fd "$DIR/dev/fd"
	mount --rbind "$DIR/dev" /dev
	# shellcheck disable=SC2086
	$ARGV &
	wait $!
}

"$1"
