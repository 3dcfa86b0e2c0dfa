noinst_LTLIBRARIES += %D%/libmilterc.la
%C%_libmilterc_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_libmilterc_la_SOURCES = \
	%D%/chain.h %D%/chain_int.h \
	%D%/answer.c \
	%D%/chain.c \
	%D%/conn.c \
	%D%/content.c \
	%D%/edit_envelope.c \
	%D%/edit_header.c \
	%D%/edits.c \
	%D%/engine.c \
	%D%/macros.c \
	%D%/negotiate.c \
	%D%/pool.c \
	%D%/record.c \
	%D%/recording.c %D%/recording.h \
	%D%/stage.c
