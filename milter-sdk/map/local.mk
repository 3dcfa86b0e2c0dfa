noinst_LTLIBRARIES += %D%/libmap.la
%C%_libmap_la_SOURCES = \
	%D%/map.c %D%/map.h \
	%D%/map_db.c \
	%D%/map_impl.h \
	%D%/map_text.c
%C%_libmap_la_LIBADD = $(DB_LIBS)
