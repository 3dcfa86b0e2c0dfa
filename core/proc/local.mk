noinst_LTLIBRARIES += %D%/libproc.la
%C%_libproc_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(SECCOMP_CFLAGS)
%C%_libproc_la_SOURCES = \
	%D%/chan.c %D%/chan.h \
	%D%/child.c %D%/child.h \
	%D%/msg.c %D%/msg.h \
	%D%/sandbox.c %D%/sandbox.h
%C%_libproc_la_LIBADD = $(EVENT_LIBS) $(SECCOMP_LIBS)
