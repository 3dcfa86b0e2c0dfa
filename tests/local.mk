# Every test prints TAP; `make check` runs them, ./check adds sanitizers,
# end-to-end runs and fuzzing.
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
SH_LOG_DRIVER = $(LOG_DRIVER)
PY_LOG_DRIVER = $(LOG_DRIVER)
TEST_EXTENSIONS = .sh .py
SH_LOG_COMPILER = $(SHELL)
PY_LOG_COMPILER = python3
AM_TESTS_ENVIRONMENT = CC='$(CC)' CPPFLAGS='$(JSONC_CFLAGS)' MALLOC_PERTURB_=165; \
	export CC CPPFLAGS MALLOC_PERTURB_;

EXTRA_DIST += check .clang-format tests/bench tests/data tests/e2e tests/fault \
	tests/fuzz tests/lib tests/milter

# a folder is copied with what Python left in it
dist-hook:
	find $(distdir)/tests -name __pycache__ -exec rm -rf {} +

include tests/unit/local.mk
include tests/lint/local.mk
