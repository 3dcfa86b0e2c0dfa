lint_tests = %D%/layers.sh %D%/headers.sh
dist_check_SCRIPTS += $(lint_tests)
TESTS += $(lint_tests)
