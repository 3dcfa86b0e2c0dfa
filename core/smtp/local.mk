noinst_LTLIBRARIES += %D%/libsmtp.la
%C%_libsmtp_la_SOURCES = \
	%D%/address.c %D%/address.h \
	%D%/command.c %D%/command.h \
	%D%/data.c %D%/data.h \
	%D%/envelope.c %D%/envelope.h \
	%D%/header.c %D%/header.h \
	%D%/id.c %D%/id.h \
	%D%/message.c %D%/message.h \
	%D%/received.c %D%/received.h
