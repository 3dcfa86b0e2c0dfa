# libmilldam: the SDK, over libmilter or by itself.  Third parties see the installed headers.
milldamincludedir = $(includedir)/milldam
milldaminclude_HEADERS = milter-sdk/include/milldam/milldam.h \
	milter-sdk/include/milldam/milldam_test.h

# All of it, for unit tests of what the library does not export.
noinst_LTLIBRARIES += %D%/libsdk.la
%C%_libsdk_la_SOURCES = \
	%D%/arena.c %D%/arena.h \
	%D%/conn.c %D%/conn.h \
	%D%/mta.c %D%/mta.h \
	%D%/edit.c \
	%D%/events.c \
	%D%/libmilter.c \
	%D%/listen.c \
	%D%/macroset.c %D%/macroset.h \
	%D%/main.c \
	%D%/reply.c \
	%D%/sdk.h \
	%D%/send.c \
	%D%/session.c %D%/session.h \
	%D%/settings.c \
	%D%/signals.c \
	%D%/stage.c \
	%D%/terms.c %D%/terms.h \
	%D%/test.c \
	%D%/txn.c \
	%D%/workers.c %D%/workers.h
%C%_libsdk_la_CPPFLAGS = $(AM_CPPFLAGS) $(MILTER_CFLAGS)
%C%_libsdk_la_CFLAGS = $(AM_CFLAGS) -pthread
%C%_libsdk_la_LIBADD = milter-sdk/base/libbase.la

lib_LTLIBRARIES += %D%/libmilldam.la
%C%_libmilldam_la_SOURCES =
%C%_libmilldam_la_LIBADD = %D%/libsdk.la $(MILTER_LIBS)
# Interfaces: raise as libtool's manual says; mill_ names only.
%C%_libmilldam_la_LDFLAGS = -version-info 0:0:0 -no-undefined -pthread \
	-export-symbols-regex '^mill_'

pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = milter-sdk/milldam.pc
