noinst_LTLIBRARIES += %D%/libroute.la
%C%_libroute_la_SOURCES = \
	%D%/route.c %D%/route.h
