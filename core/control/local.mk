# core/control
bin_PROGRAMS += milldamctl
milldamctl_SOURCES = %D%/ctl.h %D%/explain.c %D%/main.c %D%/policy.c %D%/policy_int.h \
	%D%/policy_print.c %D%/policy_try.c %D%/show.c %D%/show_queue.c %D%/show_record.c %D%/table.c
milldamctl_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS) -DRUNDIR='"/run/milldam"'
milldamctl_LDADD = core/conf/libconf.la milter-sdk/map/libmap.la \
	milter-sdk/base/libbase.la $(DB_LIBS) $(JSONC_LIBS)
man_MANS += %D%/milldamctl.8
EXTRA_DIST += %D%/milldamctl.8
