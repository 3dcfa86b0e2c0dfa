lint_tests = %D%/layers.sh %D%/headers.sh
lint_tests += %D%/manuals.sh %D%/metrics.py %D%/options.py %D%/source.sh %D%/symbols.sh
lint_tests += %D%/users.sh
lint_tests += %D%/sdk_manuals.sh
EXTRA_DIST += %D%/lib.sh
dist_check_SCRIPTS += $(lint_tests)
TESTS += $(lint_tests)
