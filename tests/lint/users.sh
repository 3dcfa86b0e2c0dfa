#!/bin/sh
# SPDX-License-Identifier: ISC
#
# users.sh - the users that the supervisor looks for are those that the
# installed files create and own folders with

cd "${srcdir:-.}" || exit 99
dir=core/supervisor
named=$(sed -n 's/^	{ "[a-z]*", "\(milldam[a-z-]*\)", .*/\1/p' $dir/user.c | sort)
made=$(sed -n 's/^u \([a-z-]*\) .*/\1/p' $dir/milldam.sysusers | sort)
owners=$(sed -n 's/^d [^ ]* [0-7]* \([^ ]*\) .*/\1/p' $dir/milldam.tmpfiles)
echo "1..3"
[ -n "$named" ] && [ "$named" = "$made" ] || {
	echo "# supervisor: $named" | tr '\n' ' '
	echo "# sysusers: $made" | tr '\n' ' '
	printf 'not '
}
echo "ok 1 - milldam.sysusers creates the supervisor's users"
bad=
for user in $owners; do
	echo "$made" | grep -qx "$user" || bad=1
done
[ -n "$owners" ] && [ -z "$bad" ] || printf 'not '
echo "ok 2 - milldam.tmpfiles names users that exist"
bad=
for user in $named; do
	grep -Eq "^\.Sy (.*[ ,])?$user( |$)" $dir/milldam.8 || { echo "# $user"; bad=1; }
done
[ -z "$bad" ] || printf 'not '
echo "ok 3 - milldam(8) names every user"
