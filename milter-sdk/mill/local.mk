# mill(1): a program around the base codec; its parts are a library for tests
noinst_LTLIBRARIES += %D%/libmill.la
%C%_libmill_la_SOURCES = %D%/mill.h %D%/dialog.c %D%/differ.c %D%/say.c \
	%D%/take.c %D%/talk.c
%C%_libmill_la_LIBADD = milter-sdk/base/libbase.la
bin_PROGRAMS += mill
mill_SOURCES = %D%/main.c
mill_LDADD = %D%/libmill.la
man_MANS += %D%/mill.1
EXTRA_DIST += %D%/mill.1
