#!/bin/bash
# SPDX-License-Identifier: ISC
#
# milldam.sh - peer script for a benchmark bench whose lib.sh is $BENCH_LIB
#
# The configuration is the shipped external-relay policy with only address,
# port, next hop and added milters changed: sandbox, logging, decision records
# and the authoriser stay on.
PEER=milldam HAS_MILTERS=yes
TOP=$(realpath "$(dirname "$0")/../..")
. "${BENCH_LIB:?path of the lib.sh of the bench}"

peer_install() {
	mkdir -p "$P/build" "$R/usr"
	(cd "$TOP" && { [ -x configure ] || autoreconf -fi; }) >&2
	(cd "$P/build" &&
	    "$TOP/configure" --prefix=/usr --sysconfdir=/etc CFLAGS="-O2 -g" &&
	    make -j2 && make install DESTDIR="$R") >&2
	mkdir -p "$R/etc"
}

peer_version() { sed -n 's/^AC_INIT(\[milldam\], \[\([^]]*\)\].*/\1/p' "$TOP/configure.ac"; }

peer_inside() {
	local m i=0 chain='"access"' milters="" pause=""
	for m in $MILTERS; do
		i=$((i + 1))
		milters="$milters
milter \"bench$i\" { endpoints = { \"$m\" } }"
		chain="$chain, \"bench$i\""
	done
	mkdir -p /etc/milldam /var/spool/milldam /run/milldam
	echo 'relay-networks = { 127.0.0.0/8, ::1 }' >/etc/milldam/access.conf
	cat >/etc/milldam/milldam.conf <<-X
	hostname = "bench.test"
	postmaster = "postmaster@bench.test"
	uid-base = 7200
	log = stderr
	limits {
		sessions = ${MAXSESS:-1000}
		sessions-per-client = ${MAXSESS:-1000}
		message-size = 50M
	}
	route { smart-host = "smtp:[127.0.0.1]:$SINK" }
	milter "access" { run = "milldam-access" settings = "/etc/milldam/access.conf" }
	$milters
	policy "inbound" { authorise = "access" chain = { $chain } }
	listener "mx" { address = { "127.0.0.1:$PORT" } policy = "inbound" }
	X
	# "hold": accept and queue, never deliver
	if [ "$MODE" = hold ]; then
		(for _ in $(seq 100); do
			milldamctl pause delivery >/dev/null 2>&1 && break
			sleep 0.05
		done) &
	fi
	/usr/sbin/milldam -f /etc/milldam/milldam.conf 2>/var/log/milldam.log &
	wait $!
}
peer_main "$@"
