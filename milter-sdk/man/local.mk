# Manual pages of the SDK.  A page may document several functions: links.sh
# says which, and each gets a file of its own name that refers to the page.
man_MANS += %D%/mill_data.3 %D%/mill_edit.3 %D%/mill_envelope.3 \
	%D%/mill_header.3 %D%/mill_main.3 %D%/mill_session.3 \
	%D%/mill_settings.3 %D%/mill_test.3 %D%/mill_verdict.3 %D%/milldam.3
EXTRA_DIST += %D%/links.sh %D%/mill_data.3 %D%/mill_edit.3 \
	%D%/mill_envelope.3 %D%/mill_header.3 %D%/mill_main.3 \
	%D%/mill_session.3 %D%/mill_settings.3 %D%/mill_test.3 \
	%D%/mill_verdict.3 %D%/milldam.3

install-data-hook: install-sdk-links
install-sdk-links:
	sh $(srcdir)/%D%/links.sh $(srcdir)/%D%/*.3 | while read -r name page; do \
	  printf '.so man3/%s\n' "$$page" >"$(DESTDIR)$(man3dir)/$$name.3" || exit 1; \
	done

uninstall-hook: uninstall-sdk-links
uninstall-sdk-links:
	sh $(srcdir)/%D%/links.sh $(srcdir)/%D%/*.3 | while read -r name page; do \
	  rm -f "$(DESTDIR)$(man3dir)/$$name.3"; \
	done

.PHONY: install-sdk-links uninstall-sdk-links
