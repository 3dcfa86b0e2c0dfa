# libmilldam: the SDK over libmilter.  Third parties see the installed headers.
milldamincludedir = $(includedir)/milldam
milldaminclude_HEADERS = milter-sdk/include/milldam/milldam.h
