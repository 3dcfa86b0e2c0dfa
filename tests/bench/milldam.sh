#!/bin/bash
# SPDX-License-Identifier: ISC
#
# milldam.sh - peer script for a benchmark bench whose lib.sh is $BENCH_LIB
#
# The configuration is the shipped one with only address, port, next hop, session
# limits (the load comes from one address) and the chain changed by a local.d
# file: sandbox, logging, decision records and the authoriser stay on.  The chain
# is the authoriser and the added milters, without the shipped content filters:
# the peers run without a virus scanner as well.
# BENCH_MILLDAM_CONF: more lines of configuration, to try something.
BENCH_MILLDAM_CONF=${BENCH_MILLDAM_CONF:-}
PEER=milldam HAS_MILTERS=yes
TOP=$(realpath "$(dirname "$0")/../..")
. "${BENCH_LIB:?path of the lib.sh of the bench}"

peer_install() {
	# an older configuration would be kept, an older build may be of another tree
	rm -rf "$R/etc/milldam" "$P/build"
	mkdir -p "$P/build" "$R/usr"
	(cd "$TOP" && { [ -x configure ] || autoreconf -fi; }) >&2
	(cd "$P/build" &&
	    "$TOP/configure" --prefix=/usr --sysconfdir=/etc CFLAGS="-O2 -g" &&
	    make -j2 && make install DESTDIR="$R") >&2
	mkdir -p "$R/etc"
}

peer_version() { sed -n 's/^AC_INIT(\[milldam\], \[\([^]]*\)\].*/\1/p' "$TOP/configure.ac"; }

peer_inside() {
	local m i=0 chain='"access"' milters=""
	for m in $MILTERS; do
		i=$((i + 1))
		milters="$milters
	milter \"bench$i\" { endpoints = { \"$m\" } library = ${MILTER_LIBRARY:-libmilter} }"
		chain="$chain, \"bench$i\""
	done
	# A site's own file over the shipped ones, as an admin would write it.
	cat >/etc/milldam/local.d/bench.conf <<-X
	hostname   = "bench.test"
	postmaster = "postmaster@bench.test"
	uid-base   = 7200
	limits {
		sessions            = ${MAXSESS:-1000}
		sessions-per-client = ${MAXSESS:-1000}
	}
	route { smart-host = "smtp:[127.0.0.1]:$SINK" }
	listener "mx" { address = { "127.0.0.1:$PORT" } }
	$milters
	policy "external-relay" { chain = { $chain } }
	$BENCH_MILLDAM_CONF
	X
	mkdir -p /var/spool/milldam /run/milldam
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
