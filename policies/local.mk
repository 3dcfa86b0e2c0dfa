# policies: data only; an admin's edited file is never overwritten
policydir = $(sysconfdir)/milldam
filterdir = $(policydir)/filters
locald = local.d
policy_files = %D%/backup-mx.policy %D%/external-relay.policy \
	%D%/internal-relay.policy %D%/lists-host.policy %D%/milldam.conf \
	%D%/null-client.policy %D%/submission.policy
filter_files = %D%/filters/access-backup.conf \
	%D%/filters/access-internal.conf %D%/filters/access-lists.conf \
	%D%/filters/access-local.conf %D%/filters/access-submission.conf \
	%D%/filters/access.conf %D%/filters/rewrite.conf \
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
	@for f in $(policy_files) $(filter_files) policies/local.d/README; do \
		to='$(DESTDIR)$(policydir)/'$${f#policies/}; \
		rm -f "$$to" "$$to.new"; \
	done
	-rmdir '$(DESTDIR)$(filterdir)' '$(DESTDIR)$(policydir)/local.d' \
	    '$(DESTDIR)$(policydir)'
