noinst_LTLIBRARIES += %D%/libproc.la
%C%_libproc_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_libproc_la_SOURCES = \
	%D%/chan.c %D%/chan.h \
	%D%/child.h \
	%D%/msg.c %D%/msg.h
