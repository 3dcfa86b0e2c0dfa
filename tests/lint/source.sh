#!/bin/sh
# SPDX-License-Identifier: ISC
#
# source.sh - no shell is started, nothing outside the tree is named

. "$(dirname "$0")/lib.sh"
cd "${srcdir:-.}" || exit 99

# files - what git tracks; from an unpacked archive, all there is
files() {
	git ls-files 2>/dev/null | grep . && return
	find . -type f -not -path '*/.*/*' -not -path './autom4te.cache/*' \
	    -not -path './build*/*' -not -name '*.o' | sed 's|^\./||'
}

# code PATTERN - lines of C outside tests/
code() {
	files | grep '\.[ch]$' | grep -v '^tests/' | tr '\n' '\0' |
	    xargs -0 grep -nE "$1" /dev/null
}

echo "1..4"
count=$(files | grep -c '\.c$')
[ "$count" -ge 50 ] && count=
ok "the C files are found" "$count"
ok "no function that starts a shell or searches PATH" \
    "$(code '\<(system|popen|wordexp|exec[lv]pe?) *\(')"
ok "no shell is named" "$(code '"([^"]*/)?(ba|da|z|k)?sh[" ]')"
outside='\.\./shar''ed'
ok "no file names a folder outside the tree" "$(files | tr '\n' '\0' |
    xargs -0 grep -nIE "$outside" /dev/null)"
