# libmilldam: the SDK over libmilter.  Third parties see the installed headers.
milldamincludedir = $(includedir)/milldam
milldaminclude_HEADERS = milter-sdk/include/milldam/milldam.h \
	milter-sdk/include/milldam/milldam_test.h

lib_LTLIBRARIES += %D%/libmilldam.la
%C%_libmilldam_la_SOURCES = \
	%D%/arena.c %D%/arena.h \
	%D%/edit.c \
	%D%/engine.c \
	%D%/listen.c \
	%D%/main.c \
	%D%/reply.c \
	%D%/sdk.h \
	%D%/settings.c \
	%D%/signals.c \
	%D%/stage.c \
	%D%/test.c \
	%D%/txn.c
%C%_libmilldam_la_CPPFLAGS = $(AM_CPPFLAGS) $(MILTER_CFLAGS)
%C%_libmilldam_la_CFLAGS = $(AM_CFLAGS) -pthread
%C%_libmilldam_la_LIBADD = milter-sdk/base/libbase.la $(MILTER_LIBS)
# Interfaces: raise as libtool's manual says; mill_ names only.
%C%_libmilldam_la_LDFLAGS = -version-info 0:0:0 -no-undefined -pthread \
	-export-symbols-regex '^mill_'

pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = milter-sdk/milldam.pc
