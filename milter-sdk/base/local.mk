noinst_LTLIBRARIES += %D%/libbase.la
%C%_libbase_la_SOURCES = \
	%D%/buf.c %D%/buf.h \
	%D%/frame.c %D%/frame.h \
	%D%/log.c %D%/log.h \
	%D%/pack.c %D%/pack.h
