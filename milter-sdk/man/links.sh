#!/bin/sh
# SPDX-License-Identifier: ISC
#
# links.sh - "name page" for each name of each page, but the page's own: the
# links that make `man NAME` work

for page; do
	awk -v own="$(basename "$page" .3)" '
	/^\.Nd/ { exit }
	/^\.Nm/ && $2 != own { print $2, own ".3" }' "$page"
done
