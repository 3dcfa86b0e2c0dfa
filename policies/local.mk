# policies: data only; an admin's edited file is never overwritten
policydir = $(sysconfdir)/milldam
filterdir = $(policydir)/filters
locald = local.d
policy_files = %D%/external-relay.policy %D%/milldam.conf
filter_files = %D%/filters/access.conf %D%/filters/rewrite.conf \
	%D%/filters/virus.conf
man_MANS += %D%/milldam.conf.5
EXTRA_DIST += $(policy_files) $(filter_files) %D%/local.d/README \
	%D%/milldam.conf.5

install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(policydir)/local.d' '$(DESTDIR)$(filterdir)'
	@for f in $(policy_files) $(filter_files) policies/local.d/README; do \
		to='$(DESTDIR)$(policydir)/'$${f#policies/}; \
		new=$$to; [ ! -e "$$to" ] || new=$$to.new; \
		if cmp -s "$(srcdir)/$$f" "$$to"; then continue; fi; \
		echo "  INSTALL $$new"; \
		$(INSTALL_DATA) "$(srcdir)/$$f" "$$new" || exit 1; \
	done

uninstall-local:
	cd '$(DESTDIR)$(policydir)' && \
	    rm -f external-relay.policy milldam.conf filters/access.conf \
	    filters/rewrite.conf filters/virus.conf local.d/README \
	    milldam.conf.new external-relay.policy.new filters/*.new
	-rmdir '$(DESTDIR)$(filterdir)' '$(DESTDIR)$(policydir)/local.d' \
	    '$(DESTDIR)$(policydir)'
