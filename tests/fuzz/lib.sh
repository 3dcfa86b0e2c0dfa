# SPDX-License-Identifier: ISC
#
# lib.sh - build the fuzzers, for run and coverage (sourced)
#
# Every tests/fuzz/NAME_fuzz.c is a target.  It may use everything that reads
# hostile bytes and links without the processes around it: those sources go into
# an archive, of which a target takes what it needs.

src=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
targets=$(cd "$src/tests/fuzz" && for f in *_fuzz.c; do echo "${f%_fuzz.c}"; done)
folders="milter-sdk/base milter-sdk/map core/policy core/conf core/smtp core/milter core/spool
core/route core/lookup core/relay core/web quarantine milter-sdk/mill milter-sdk/src milters/access milters/rewrite"

# in_memory - a folder for the targets' own files, even if they crash
in_memory() {
	TMPDIR=$(mktemp -d /dev/shm/milldam-fuzz.XXXXXX) || exit 1
	export TMPDIR
	trap 'exit 130' INT TERM
}

# build_targets DIR COMPILE-FLAGS NAME... - DIR/NAME for each, by make
build_targets() {
	dir=$1
	flags=$2
	shift 2
	mkdir -p "$dir" || return 1
	objects=
	{
		echo "CC = ${CLANG:-clang} -std=gnu11 -g -O1 -fno-omit-frame-pointer $flags"
		# make anew what a header changed; -MMD tells which
		echo "-include *.d"
		echo "CPPFLAGS = -MMD -MT \$@ -MF \$@.d -D_GNU_SOURCE -I$src -I$src/milter-sdk/include"
		echo "all: $*"
		for f in $(cd "$src" && for d in $folders; do ls "$d"/*.c; done | grep -vE '/main\.c|src/libmilter\.c'); do
			o=$(echo "${f%.c}.o" | tr / _)
			objects="$objects $o"
			printf '%s: %s\n\t$(CC) -fsanitize=fuzzer-no-link $(CPPFLAGS) -c -o $@ %s\n' \
			    "$o" "$src/$f" "$src/$f"
		done
		printf 'lib.a:%s\n\trm -f $@; ar rc $@%s\n' "$objects" "$objects"
		for t; do
			f=$src/tests/fuzz/${t}_fuzz.c
			printf '%s: %s lib.a\n\t$(CC) -fsanitize=fuzzer $(CPPFLAGS) -o $@ %s lib.a -lpthread -Wl,--as-needed -levent_core -lcares -ldb\n' \
			    "$t" "$f" "$f"
		done
	} >"$dir/Makefile"
	env -u MAKEFLAGS make -C "$dir" -j"$(nproc)" all >"$dir/build.log" 2>&1 || {
		grep -E 'error|undefined|\*\*\*' "$dir/build.log" | head -20 | sed 's/^/# /'
		return 1
	}
}
