noinst_LTLIBRARIES += %D%/libquarantine.la
%C%_libquarantine_la_SOURCES = %D%/names.c %D%/origin.c %D%/quarantine.h
