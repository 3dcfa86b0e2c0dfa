noinst_LTLIBRARIES += %D%/librelay.la
%C%_librelay_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_librelay_la_SOURCES = \
	%D%/content.c %D%/content.h \
	%D%/hop.c %D%/hop.h \
	%D%/job.c %D%/job.h \
	%D%/relay.c %D%/relay.h \
	%D%/reply.c %D%/reply.h \
	%D%/session.c %D%/session.h \
	%D%/transaction.c
%C%_librelay_la_LIBADD = $(EVENT_LIBS)
