# core/supervisor
sbin_PROGRAMS += milldam
milldam_SOURCES = \
	%D%/command.c %D%/control.c %D%/control.h %D%/gather.c %D%/listen.c \
	%D%/main.c %D%/spawn.c %D%/state.c %D%/sup.h %D%/user.c
milldam_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
milldam_LDADD = \
	core/receiver/libreceiver.la core/milter/libmilterc.la \
	core/queue/libqueue.la core/spool/libspool.la \
	core/relay/librelay.la core/lookup/liblookup.la \
	core/route/libroute.la milter-sdk/map/libmap.la \
	core/proc/libproc.la core/conf/libconf.la core/smtp/libsmtp.la \
	milter-sdk/base/libbase.la $(EVENT_LIBS) $(CAPNG_LIBS) \
	$(SECCOMP_LIBS)
man_MANS += %D%/milldam.8
EXTRA_DIST += %D%/milldam.8
