# SPDX-License-Identifier: ISC
#
# lib.sh - what the checks of the source share (sourced before any cd)

n=0

# ok TEXT BAD - one result; BAD, which is shown, is empty when it passes
ok() {
	n=$((n + 1))
	if [ -n "$2" ]; then
		echo "$2" | sed 's/^/# /'
		printf 'not '
	fi
	echo "ok $n - $1"
}

# sdk_headers TOP - the headers that the SDK installs
sdk_headers() {
	sed -n '/^milldaminclude_HEADERS/,/[^\\]$/p' \
	    "$1/milter-sdk/src/local.mk" | grep -o 'milter-sdk/[^ ]*\.h'
}

# sdk_text TOP - what they declare, in one line and without comments
sdk_text() {
	text=$(sdk_headers "$1" | sed 's/.*/#include "&"/' |
	    ${CC:-cc} -E -P -I"$1" -I"$1/milter-sdk/include" -x c -) || return
	echo "$text" | tr '\n' ' '
}

# sdk_functions - their names in such text: before "(", but no type before
# "(*pointer)"
sdk_functions() {
	grep -oE '\<mill_[a-z0-9_]+ *\( *[^* ]' | grep -oE '^[a-z0-9_]+' | sort -u
}
