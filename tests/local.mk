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
	tests/lib/fakemilter.py tests/lib/mails.py tests/lib/mta.py \
	tests/lib/mta.sh tests/lib/packages.py tests/lib/sink.py \
	tests/bench/milldam.sh tests/fault/lazy_write.c \
	tests/fault/slow_sync.c check .clang-format
EXTRA_DIST += tests/e2e/durability_test.py tests/e2e/kill_test.py \
	tests/e2e/opendkim_test.py tests/e2e/process_test.py \
	tests/e2e/relay_test.py tests/e2e/senders_test.py \
	tests/e2e/trouble_test.py
EXTRA_DIST += tests/fuzz/milter_fuzz.c tests/fuzz/corpus/milter/connect6 \
	tests/fuzz/corpus/milter/edits tests/fuzz/corpus/milter/options \
	tests/fuzz/corpus/milter/reply tests/fuzz/corpus/milter/session
EXTRA_DIST += tests/lib/milterclient.py \
	tests/e2e/rewrite_test.py tests/e2e/virus_test.py \
	tests/data/signatures/README \
	tests/data/signatures/milldam-test.ndb

EXTRA_DIST += tests/lib/miltermta.py tests/e2e/sdk_test.py \
	tests/e2e/sdk_filter.c

include tests/unit/local.mk
include tests/lint/local.mk
