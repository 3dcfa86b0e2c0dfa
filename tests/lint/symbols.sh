#!/bin/sh
# SPDX-License-Identifier: ISC
#
# symbols.sh - libmilldam.so exports what the installed headers declare, and
# nothing else
#
# A static archive that is linked into the library (base, map) must not become
# part of its interface.

. "$(dirname "$0")/lib.sh"
top=${srcdir:-.}
lib=milter-sdk/src/.libs/libmilldam.so
if [ ! -e "$lib" ]; then
	echo "1..0 # SKIP the shared library is not built"
	exit 0
fi
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

sdk_text "$top" >"$tmp/text" || exit 99
sdk_functions <"$tmp/text" >"$tmp/declared"
nm -D --defined-only "$lib" | awk 'NF == 3 { print $3 }' | sort -u >"$tmp/exported"

echo "1..3"
count=$(wc -l <"$tmp/declared")
[ "$count" -ge 10 ] && count=
ok "the headers declare functions" "$count"
comm -23 "$tmp/declared" "$tmp/exported" >"$tmp/missing"
ok "each declared function is exported" "$(cat "$tmp/missing")"
comm -13 "$tmp/declared" "$tmp/exported" >"$tmp/more"
ok "nothing else is exported" "$(cat "$tmp/more")"
