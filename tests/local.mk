# Every test prints TAP; `make check` runs them, ./check adds sanitizers,
# end-to-end runs and fuzzing.
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
SH_LOG_DRIVER = $(LOG_DRIVER)
PY_LOG_DRIVER = $(LOG_DRIVER)
TEST_EXTENSIONS = .sh .py
SH_LOG_COMPILER = $(SHELL)
PY_LOG_COMPILER = python3
AM_TESTS_ENVIRONMENT = CC='$(CC)' MALLOC_PERTURB_=165; export CC MALLOC_PERTURB_;

EXTRA_DIST += tests/lib/t.h tests/lib/build.sh tests/lib/gateway.py \
	tests/lib/sink.py tests/bench/milldam.sh check .clang-format

include tests/unit/local.mk
include tests/lint/local.mk
