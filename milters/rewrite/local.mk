# milldam-rewrite; the engines are a library of their own for the unit tests
noinst_LTLIBRARIES += %D%/librewrite.la
%C%_librewrite_la_SOURCES = \
	%D%/address.c %D%/address.h \
	%D%/rules.c %D%/rules.h
%C%_librewrite_la_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS)
%C%_librewrite_la_LIBADD = $(PCRE2_LIBS)

pkglibexec_PROGRAMS += %D%/milldam-rewrite
%C%_milldam_rewrite_SOURCES = %D%/rewrite.c
%C%_milldam_rewrite_LDADD = %D%/librewrite.la milter-sdk/src/libmilldam.la

man_MANS += %D%/milldam-rewrite.8
EXTRA_DIST += %D%/milldam-rewrite.8
