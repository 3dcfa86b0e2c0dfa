# Pure, and needed wherever settings are read: a part of libconf.
noinst_LTLIBRARIES += %D%/libpolicy.la
%C%_libpolicy_la_SOURCES = \
	%D%/match.c \
	%D%/pattern.c %D%/pattern.h \
	%D%/policy.c %D%/policy.h %D%/policy_int.h \
	%D%/show.c
