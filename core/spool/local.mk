# core/spool
noinst_LTLIBRARIES += %D%/libspool.la
%C%_libspool_la_SOURCES = \
	%D%/entry.c %D%/journal.c %D%/put.c %D%/read.c %D%/recover.c \
	%D%/record.c %D%/record.h %D%/segment.c %D%/spool.c %D%/spool.h \
	%D%/spool_int.h %D%/spool_io.c %D%/spool_io.h %D%/sync.c
%C%_libspool_la_LIBADD = -lpthread
