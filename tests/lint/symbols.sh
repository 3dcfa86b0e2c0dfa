#!/bin/sh
# SPDX-License-Identifier: ISC
#
# symbols.sh - libmilldam.so exports what the installed headers declare, and
# nothing else
#
# A static archive that is linked into the library (base, map) must not become
# part of its interface.

top=${srcdir:-.}
lib=milter-sdk/src/.libs/libmilldam.so
if [ ! -e "$lib" ]; then
	echo "1..0 # SKIP the shared library is not built"
	exit 0
fi
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

headers=$(sed -n '/^milldaminclude_HEADERS/,/[^\\]$/p' \
    "$top/milter-sdk/src/local.mk" | grep -o 'milter-sdk/[^ ]*\.h')
for h in $headers; do
	printf '#include "%s"\n' "$h"
done >"$tmp/all.c"
# without comments; a name before "(", but not a type before "(*pointer)"
${CC:-cc} -E -P -I"$top" -I"$top/milter-sdk/include" "$tmp/all.c" >"$tmp/all.i" ||
    exit 99
tr '\n' ' ' <"$tmp/all.i" | grep -oE '\<mill_[a-z0-9_]+ *\( *[^* ]' |
    grep -oE '^[a-z0-9_]+' | sort -u >"$tmp/declared"
nm -D --defined-only "$lib" | awk 'NF == 3 { print $3 }' | sort -u >"$tmp/exported"

# none FILE TEXT - passes when FILE is empty
n=0
none() {
	n=$((n + 1))
	if [ -s "$1" ]; then
		sed 's/^/# /' "$1"
		printf 'not '
	fi
	echo "ok $n - $2"
}

echo "1..3"
[ "$(wc -l <"$tmp/declared")" -ge 10 ] && : >"$tmp/few" ||
    echo "only $(wc -l <"$tmp/declared") in $headers" >"$tmp/few"
none "$tmp/few" "the headers declare functions"
comm -23 "$tmp/declared" "$tmp/exported" >"$tmp/missing"
none "$tmp/missing" "each declared function is exported"
comm -13 "$tmp/declared" "$tmp/exported" >"$tmp/more"
none "$tmp/more" "nothing else is exported"
