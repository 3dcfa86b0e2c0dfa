noinst_LTLIBRARIES += %D%/libconf.la
%C%_libconf_la_SOURCES = \
	%D%/endpoint.c %D%/endpoint.h \
	%D%/reader.c %D%/reader.h %D%/rule.h \
	%D%/settings.c %D%/settings.h \
	%D%/settings_change.c \
	%D%/settings_milter.c \
	%D%/settings_policy.c \
	%D%/settings_rule.c
%C%_libconf_la_LIBADD = core/policy/libpolicy.la
