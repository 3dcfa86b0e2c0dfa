noinst_LTLIBRARIES += %D%/libreceiver.la
%C%_libreceiver_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_libreceiver_la_LIBADD = quarantine/libquarantine.la
%C%_libreceiver_la_SOURCES = \
	%D%/content.c \
	%D%/dispatch.c \
	%D%/doors.c \
	%D%/greet.c \
	%D%/mail.c \
	%D%/names.c \
	%D%/peers.c \
	%D%/receiver.c %D%/receiver.h \
	%D%/record.c \
	%D%/recordings.c \
	%D%/release.c \
	%D%/session.c \
	%D%/split.c \
	%D%/store.c \
	%D%/stream.c \
	%D%/submit.c \
	%D%/tables.c \
	%D%/transaction.c
