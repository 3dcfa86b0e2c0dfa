noinst_LTLIBRARIES += %D%/libbase.la
%C%_libbase_la_SOURCES = \
	%D%/buf.c %D%/buf.h \
	%D%/cidr.c %D%/cidr.h \
	%D%/conf.c %D%/conf.h \
	%D%/conf_value.c \
	%D%/crc32c.c %D%/crc32c.h \
	%D%/frame.c %D%/frame.h \
	%D%/json.c %D%/json.h \
	%D%/log.c %D%/log.h \
	%D%/metric.c %D%/metric.h \
	%D%/milter.c %D%/milter.h \
	%D%/pack.c %D%/pack.h \
	%D%/tape.c %D%/tape.h
