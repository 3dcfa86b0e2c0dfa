# milldam-virus: under the GPL as built, because of libclamav (see LICENSE)
if WITH_CLAMAV
pkglibexec_PROGRAMS += %D%/milldam-virus
%C%_milldam_virus_SOURCES = \
	%D%/content.c %D%/content.h \
	%D%/engine.c %D%/engine.h \
	%D%/ipc.c %D%/ipc.h \
	%D%/jail.c %D%/jail.h \
	%D%/pool.c %D%/pool.h \
	%D%/virus.c \
	%D%/zygote.c %D%/zygote.h
%C%_milldam_virus_CPPFLAGS = $(AM_CPPFLAGS) $(CLAMAV_CFLAGS) $(SECCOMP_CFLAGS)
%C%_milldam_virus_CFLAGS = $(AM_CFLAGS) -pthread
%C%_milldam_virus_LDADD = milter-sdk/src/libmilldam.la $(CLAMAV_LIBS) \
	$(SECCOMP_LIBS) -lpthread

man_MANS += %D%/milldam-virus.8
endif
EXTRA_DIST += %D%/milldam-virus.8
