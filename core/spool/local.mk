# core/spool
noinst_LTLIBRARIES += %D%/libspool.la
%C%_libspool_la_SOURCES = \
	%D%/entry.c %D%/journal.c %D%/move.c %D%/put.c %D%/read.c %D%/recover.c \
	%D%/record.c %D%/record.h %D%/segment.c %D%/spool.c %D%/spool.h \
	%D%/spool_int.h %D%/spool_io.c %D%/spool_io.h %D%/sync.c
%C%_libspool_la_LIBADD = -lpthread

# The tool in two, so that its parts can be tested without a process.
noinst_LTLIBRARIES += %D%/libspooltool.la
%C%_libspooltool_la_SOURCES = \
	%D%/tool/salvage.c %D%/tool/show.c %D%/tool/tool.h %D%/tool/view.c
sbin_PROGRAMS += milldam-spool
milldam_spool_SOURCES = %D%/tool/main.c
milldam_spool_LDADD = %D%/libspooltool.la %D%/libspool.la \
	core/smtp/libsmtp.la milter-sdk/base/libbase.la
man_MANS += %D%/milldam-spool.8
EXTRA_DIST += %D%/milldam-spool.8
