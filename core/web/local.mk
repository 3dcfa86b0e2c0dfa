noinst_LTLIBRARIES += %D%/libweb.la
%C%_libweb_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_libweb_la_SOURCES = \
	%D%/ask.c \
	%D%/http.c %D%/http.h \
	%D%/page.c %D%/page.h \
	%D%/serve.c \
	%D%/web.c %D%/web.h
%C%_libweb_la_LIBADD = $(EVENT_LIBS)
man_MANS += %D%/milldam-web.8
EXTRA_DIST += %D%/milldam-web.8
