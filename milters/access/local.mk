# milters/access: who may send to whom
noinst_LTLIBRARIES += %D%/libaccess.la
%C%_libaccess_la_SOURCES = \
	%D%/access.c %D%/access.h \
	%D%/address.c \
	%D%/keys.c \
	%D%/table.c \
	%D%/value.c
%C%_libaccess_la_LIBADD = milter-sdk/map/libmap.la

pkglibexec_PROGRAMS += %D%/milldam-access
%C%_milldam_access_SOURCES = %D%/main.c
%C%_milldam_access_LDADD = %D%/libaccess.la milter-sdk/base/libbase.la \
	milter-sdk/src/libmilldam.la

man_MANS += %D%/milldam-access.8
EXTRA_DIST += %D%/milldam-access.8
