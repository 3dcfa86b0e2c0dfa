noinst_LTLIBRARIES += %D%/libsmtp.la
%C%_libsmtp_la_SOURCES = \
	%D%/envelope.c %D%/envelope.h \
	%D%/id.c %D%/id.h \
	%D%/message.c %D%/message.h
