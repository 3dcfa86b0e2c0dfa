# SPDX-License-Identifier: ISC
#
# build.sh - install packages and build, for ./check and ./quickstart (sourced)
#
# Sets $top (the source) and gives: need_packages, build_dir NAME, build_tree.

PACKAGES="gcc make autoconf automake libtool pkg-config python3
libevent-dev libssl-dev libc-ares-dev libdb5.3-dev libpcre2-dev libmilter-dev
libclamav-dev libseccomp-dev libcap-ng-dev libjson-c-dev"

# need_packages NAME... - install what is missing; needs root only if so
need_packages() {
	missing=
	for p; do
		case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) in
		*" installed") ;;
		*) missing="$missing $p" ;;
		esac
	done
	[ -z "$missing" ] && return 0
	echo "Installing:$missing"
	if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086
	$sudo apt-get -q update >/dev/null &&
	    $sudo apt-get -q -y install --no-install-recommends $missing \
	    </dev/null >/dev/null || {
		echo "cannot install:$missing" >&2
		echo "install these packages by hand and run this again" >&2
		return 1
	}
}

# build_dir NAME - where to build: below the source, or, where other users may
# not walk down to it (the gateway's processes have uids of their own), in
# /var/tmp under a name made of the source's path
build_dir() {
	d=$top
	while [ "$d" != / ]; do
		case $(stat -c %A "$d") in
		*x|*t) d=$(dirname "$d") ;;
		*) d=closed; break ;;
		esac
	done
	if [ "$d" = closed ]; then
		hash=$(printf %s "$top" | cksum | cut -d' ' -f1)
		echo "/var/tmp/milldam-build-$(id -u)-$hash/$1"
	else
		echo "$top/build/$1"
	fi
}

# build_tree DIR CONFIGURE-ARGUMENT... - configure if needed, make, install
# into DIR/inst; the log is DIR/build.log
build_tree() {
	b=$1
	shift
	mkdir -p "$b" || return 1
	{
		[ -x "$top/configure" ] && [ "$top/configure" -nt "$top/configure.ac" ] ||
		    (cd "$top" && autoreconf -fi)
	} >"$b/build.log" 2>&1 || { tail -20 "$b/build.log" >&2; return 1; }
	(
		cd "$b" || exit 1
		[ -f Makefile ] && [ Makefile -nt "$top/configure" ] ||
		    "$top/configure" --prefix="$b/inst" "$@"
		make -j"$(nproc)" && make install
	) >>"$b/build.log" 2>&1 || { tail -30 "$b/build.log" >&2; return 1; }
}
