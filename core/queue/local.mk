noinst_LTLIBRARIES += %D%/libqueue.la
%C%_libqueue_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_libqueue_la_LIBADD = quarantine/libquarantine.la
%C%_libqueue_la_SOURCES = \
	%D%/bounce.c \
	%D%/caught.c \
	%D%/command.c \
	%D%/entry.c \
	%D%/handout.c \
	%D%/heap.c %D%/heap.h \
	%D%/list.c %D%/metrics.c \
	%D%/notice.c \
	%D%/outcome.c \
	%D%/queue.c %D%/queue.h \
	%D%/records.c %D%/records_match.c %D%/records_search.c %D%/records.h \
	%D%/release.c \
	%D%/report.c %D%/report.h \
	%D%/schedule.c \
	%D%/site.c \
	%D%/submit.c
