noinst_LTLIBRARIES += %D%/libmilterc.la
%C%_libmilterc_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(SSL_CFLAGS)
%C%_libmilterc_la_LIBADD = quarantine/libquarantine.la $(SSL_LIBS)
%C%_libmilterc_la_SOURCES = \
	%D%/chain.h %D%/chain_int.h \
	%D%/answer.c \
	%D%/breaker.c %D%/breaker.h \
	%D%/chain.c \
	%D%/choose.c \
	%D%/conn.c \
	%D%/content.c \
	%D%/decide.c \
	%D%/dial.c \
	%D%/edit_envelope.c \
	%D%/edit_header.c \
	%D%/edits.c \
	%D%/engine.c \
	%D%/groups.c \
	%D%/known.c \
	%D%/macros.c \
	%D%/negotiate.c \
	%D%/pool.c \
	%D%/probe.c \
	%D%/record.c \
	%D%/recording.c %D%/recording.h \
	%D%/replay.c \
	%D%/run.c \
	%D%/sample.c \
	%D%/shadow.c \
	%D%/stage.c \
	%D%/stats.c %D%/stats.h \
	%D%/stream.c \
	%D%/tls.c
