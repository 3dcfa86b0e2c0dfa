#!/bin/sh
# SPDX-License-Identifier: ISC
#
# manuals.sh - every manual page is clean and installed; every installed
# program, and the configuration, has one
#
# What is installed is read from the local.mk files.  The pages' own names are
# not known to the system's manual database before they are installed, and some
# have section names of their own: those two notes of mandoc are left out.

. "$(dirname "$0")/lib.sh"
cd "${srcdir:-.}" || exit 99
command -v mandoc >/dev/null || { echo "1..0 # SKIP no mandoc"; exit 0; }
folders="core milters milter-sdk policies"

# listed VARIABLE... - words appended to automake's variables, one a line
listed() {
	for var; do
		# shellcheck disable=SC2086
		find $folders -name local.mk | while read -r mk; do
			sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' "$mk" |
			    sed -n "s/^${var}_*[A-Za-z]* *+*= *//p" |
			    sed "s|%D%|$(dirname "$mk")|g" | tr -s ' \t' '\n\n'
		done
	done | grep . | sort -u
}

# shellcheck disable=SC2086
pages=$(find $folders -name '*.[1-9]' | sort)
installed=$(listed man_MANS dist_man_MANS dist_man1_MANS dist_man3_MANS \
    dist_man5_MANS dist_man7_MANS dist_man8_MANS)
programs="$(listed bin_PROGRAMS sbin_PROGRAMS pkglibexec_PROGRAMS |
    sed 's|.*/||') milldam.conf"
# shellcheck disable=SC2086
echo "1..$((2 * $(echo $pages | wc -w) + $(echo $programs | wc -w) + 1))"

for p in $pages; do
	ok "$p is clean mdoc" "$(mandoc -T lint -W style "$p" 2>&1 | grep -v \
	    -e 'outdated mandoc.db' -e 'referenced manual not found' \
	    -e 'possible typo in section name')"
	ok "$p is installed" "$(echo "$installed" | grep -qx "$p" ||
	    echo "in no MANS of a local.mk")"
done
for p in $programs; do
	ok "$p has a manual page" \
	    "$(echo "$pages" | grep -q "/$p\.[1-9]\$" || echo "no $p.[1-9]")"
done
count=$(echo "$programs" | wc -w)
[ "$count" -ge 5 ] && count=
ok "the installed programs are found" "$count"
