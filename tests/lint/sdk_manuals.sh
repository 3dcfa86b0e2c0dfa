#!/bin/sh
# SPDX-License-Identifier: ISC
#
# sdk_manuals.sh - every public function of the SDK has a manual page, and the
# programs in the pages compile and run

. "$(dirname "$0")/lib.sh"
top=${srcdir:-.}
command -v mandoc >/dev/null || { echo "1..0 # SKIP no mandoc"; exit 0; }
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
man=$top/milter-sdk/man

sdk_text "$top" >"$tmp/text" || exit 99
sdk_functions <"$tmp/text" >"$tmp/declared"

# A manual folder as it is installed.
mkdir "$tmp/man3" && cp "$man"/*.3 "$tmp/man3/" || exit 99
sh "$man/links.sh" "$man"/*.3 >"$tmp/links"
while read -r name page; do
	[ -e "$tmp/man3/$name.3" ] && echo "$name" >>"$tmp/twice"
	printf '.so man3/%s\n' "$page" >"$tmp/man3/$name.3"
done <"$tmp/links"
: >>"$tmp/twice"

echo "1..7"
count=$(wc -l <"$tmp/declared")
[ "$count" -ge 60 ] && count=
ok "the headers declare functions" "$count"

# A page's NAME makes the link; its text must show the prototype.
while read -r f; do
	[ -e "$tmp/man3/$f.3" ] || { echo "$f"; continue; }
	(cd "$tmp" && mandoc -T ascii -O width=500 "man3/$f.3" | sed 's/.\x08//g' |
	    sed -n '/^SYNOPSIS/,/^DESCRIPTION/p' | tr -s ' \n' '  ') |
	    grep -q "[ *]$f(" || echo "$f: not in the SYNOPSIS"
done <"$tmp/declared" >"$tmp/missing"
ok "each has a page under its name, with its prototype" "$(cat "$tmp/missing")"
ok "none has two" "$(cat "$tmp/twice")"
cut -d' ' -f1 "$tmp/links" | sort -u | comm -13 "$tmp/declared" - >"$tmp/unknown"
ok "no page names a function that does not exist" "$(cat "$tmp/unknown")"

# arguments as in the header: the last word of each page's parameter is its name
while read -r f; do
	want=$(grep -oE "\<$f *\([^;]*;" "$tmp/text" |
	    sed 's/__attribute__.*//; s/([^()]*)(/(/g' | tr -dc ',' | wc -c)
	got=$(awk -v f="$f" '
	    $1 == ".Fo" { in_f = $2 == f }
	    $1 == ".Fa" && in_f { n++ }
	    $1 == ".Fn" && $2 == f && !n { m = gsub(/"[^"]*"/, "") ; n = m }
	    /^\.Sh DESCRIPTION/ { exit }
	    END { print n - 1 }' "$man/$(awk -v f="$f" '$1 == f { print $2 }' \
	    "$tmp/links" | grep . || echo "$f.3")")
	[ "$got" = "$want" ] || echo "$f: $got commas in the page, $want in the header"
done <"$tmp/declared" >"$tmp/args"
ok "each page's prototype has the header's arguments" "$(cat "$tmp/args")"

# Whole programs begin with #include.
for page in "$man"/*.3; do
	awk -v out="$tmp/$(basename "$page" .3)" '
	/^\.Bd -literal/ { in_bd = 1; file = ""; next }
	/^\.Ed/ { in_bd = 0 }
	in_bd && file == "" { if (!/^#include/) { in_bd = 0; next }
		file = out "-" ++n ".c" }
	in_bd { gsub(/\\e/, "\\"); sub(/^\\&/, ""); print >file }' "$page"
done
ls "$tmp"/*-[0-9].c >"$tmp/programs" 2>/dev/null
# shellcheck disable=SC2086
while read -r p; do
	${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -I"$top/milter-sdk/include" \
	    -c -o "${p%.c}.o" "$p" 2>&1
done <"$tmp/programs" >"$tmp/errors"
[ "$(wc -l <"$tmp/programs")" -ge 2 ] || echo "too few programs" >>"$tmp/errors"
ok "the programs in the pages compile" "$(cat "$tmp/errors")"

lib=milter-sdk/src/libmilldam.la
if [ -e "$lib" ] && [ -x ./libtool ]; then
	flags=$(sed -n 's/^LDFLAGS = //p' Makefile) # a sanitizer's, if any
	# shellcheck disable=SC2086
	for p in "milldam-1 -n" mill_test-1; do
		set -- $p
		./libtool --silent --mode=link ${CC:-cc} $flags -static \
		    -o "$tmp/$1" "$tmp/$1.o" "$lib" &&
		    ./libtool --mode=execute "$tmp/$1" ${2-} || echo "failed: $p"
	done >"$tmp/out" 2>&1
	ok "and run" "$(cat "$tmp/out")"
else
	echo "ok 7 # SKIP the library is not built"
fi
