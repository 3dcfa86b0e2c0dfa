noinst_LTLIBRARIES += %D%/liblookup.la
%C%_liblookup_la_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(CARES_CFLAGS)
%C%_liblookup_la_SOURCES = \
	%D%/client.c %D%/client.h \
	%D%/dns.c %D%/dns.h \
	%D%/dns_cache.c %D%/dns_cache.h \
	%D%/dns_parse.c \
	%D%/hosts.c %D%/hosts.h \
	%D%/lookup.c \
	%D%/mx.c %D%/mx.h \
	%D%/rule_tables.c %D%/rule_tables.h \
	%D%/tables.c %D%/tables.h
%C%_liblookup_la_LIBADD = $(EVENT_LIBS) $(CARES_LIBS)
