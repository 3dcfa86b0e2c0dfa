# core/supervisor
sbin_PROGRAMS += milldam
milldam_SOURCES = \
	%D%/check.c %D%/command.c %D%/control.c %D%/control.h %D%/gather.c %D%/health.c \
	%D%/listen.c \
	%D%/main.c %D%/recordings.c %D%/reload.c %D%/spawn.c %D%/state.c %D%/sup.h %D%/user.c
milldam_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
milldam_LDADD = \
	core/receiver/libreceiver.la core/milter/libmilterc.la \
	core/queue/libqueue.la core/spool/libspool.la \
	core/relay/librelay.la core/lookup/liblookup.la \
	core/web/libweb.la \
	core/route/libroute.la milter-sdk/map/libmap.la \
	core/proc/libproc.la core/conf/libconf.la core/smtp/libsmtp.la \
	milter-sdk/base/libbase.la $(EVENT_LIBS) $(CAPNG_LIBS) \
	$(SECCOMP_LIBS)
man_MANS += %D%/milldam.8
EXTRA_DIST += %D%/milldam.8

# what a service manager needs: a unit, the users, the run directory
systemdunitdir = $(prefix)/lib/systemd/system
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d
nodist_systemdunit_DATA = %D%/milldam.service
EXTRA_DIST += %D%/milldam.service.in %D%/milldam.sysusers %D%/milldam.tmpfiles
CLEANFILES += %D%/milldam.service

%D%/milldam.service: %D%/milldam.service.in Makefile
	@$(MKDIR_P) %D%
	$(AM_V_GEN)sed -e 's|@sbindir[@]|$(sbindir)|g' \
	    -e 's|@sysconfdir[@]|$(sysconfdir)|g' \
	    '$(srcdir)/%D%/milldam.service.in' >$@

install-data-hook:
	$(MKDIR_P) '$(DESTDIR)$(sysusersdir)' '$(DESTDIR)$(tmpfilesdir)'
	$(INSTALL_DATA) '$(srcdir)/%D%/milldam.sysusers' \
	    '$(DESTDIR)$(sysusersdir)/milldam.conf'
	$(INSTALL_DATA) '$(srcdir)/%D%/milldam.tmpfiles' \
	    '$(DESTDIR)$(tmpfilesdir)/milldam.conf'

uninstall-hook:
	rm -f '$(DESTDIR)$(sysusersdir)/milldam.conf' \
	    '$(DESTDIR)$(tmpfilesdir)/milldam.conf'
