# A unit test is one program NAME_test.c that prints TAP (tests/lib/t.h).
unit_tests = %D%/buf_test %D%/frame_test
unit_tests += %D%/cidr_test %D%/conf_test %D%/crc32c_test
unit_tests += %D%/chain_test %D%/chain_edits_test %D%/chain_rules_test %D%/chain_policy_test %D%/chain_pipeline_test %D%/chain_stream_test %D%/chain_libmilter_test %D%/milter_test
unit_tests += %D%/breaker_test %D%/chain_group_test
unit_tests += %D%/json_test
unit_tests += %D%/balance_test %D%/queue_test %D%/records_test %D%/report_test %D%/schedule_test
unit_tests += %D%/settings_test %D%/policy_test
unit_tests += %D%/spool_test
unit_tests += %D%/spool_tool_test
unit_tests += %D%/id_test
unit_tests += %D%/map_test %D%/route_test
unit_tests += %D%/sdk_test %D%/mta_test %D%/access_test
unit_tests += %D%/relay_test %D%/reply_test %D%/lookup_test
unit_tests += %D%/address_test %D%/rules_test
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)

%C%_buf_test_LDADD = milter-sdk/base/libbase.la
%C%_cidr_test_LDADD = milter-sdk/base/libbase.la
%C%_conf_test_LDADD = milter-sdk/base/libbase.la
%C%_crc32c_test_LDADD = milter-sdk/base/libbase.la
%C%_frame_test_LDADD = milter-sdk/base/libbase.la
%C%_json_test_LDADD = milter-sdk/base/libbase.la
%C%_queue_test_SOURCES = %D%/queue_test.c %D%/queue_rig.c %D%/queue_rig.h
%C%_queue_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_queue_test_LDADD = core/queue/libqueue.la core/spool/libspool.la \
	core/proc/libproc.la core/conf/libconf.la core/smtp/libsmtp.la \
	milter-sdk/base/libbase.la
# Each function that counts is wrapped, so that a count can be left out.
%C%_balance_test_SOURCES = %D%/balance_test.c %D%/queue_rig.c %D%/queue_rig.h
%C%_balance_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_balance_test_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=submit_synced \
	-Wl,--wrap=spool_put_done,--wrap=spool_put_discarded \
	-Wl,--wrap=spool_put_drop,--wrap=spool_put_message \
	-Wl,--wrap=spool_put_messages \
	-Wl,--wrap=entry_count,--wrap=entry_set_state,--wrap=entry_set_held \
	-Wl,--wrap=rec_totals_put
%C%_balance_test_LDADD = $(%C%_queue_test_LDADD)
%C%_records_test_LDADD = core/queue/libqueue.la core/smtp/libsmtp.la \
	milter-sdk/base/libbase.la
%C%_report_test_LDADD = core/queue/libqueue.la core/smtp/libsmtp.la \
	milter-sdk/base/libbase.la
%C%_schedule_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_schedule_test_LDADD = $(%C%_queue_test_LDADD)
%C%_policy_test_LDADD = core/conf/libconf.la milter-sdk/base/libbase.la
%C%_settings_test_LDADD = core/conf/libconf.la milter-sdk/base/libbase.la
%C%_spool_test_LDADD = core/spool/libspool.la core/smtp/libsmtp.la milter-sdk/base/libbase.la
%C%_id_test_LDADD = core/smtp/libsmtp.la milter-sdk/base/libbase.la
%C%_map_test_LDADD = milter-sdk/map/libmap.la milter-sdk/base/libbase.la $(DB_LIBS)
%C%_route_test_LDADD = core/route/libroute.la core/smtp/libsmtp.la milter-sdk/base/libbase.la
%C%_spool_tool_test_LDADD = core/spool/libspooltool.la core/spool/libspool.la core/smtp/libsmtp.la milter-sdk/base/libbase.la

# The chain engine, against scripted milters on threads.
EXTRA_DIST += %D%/chain_lib.h %D%/chain_script.h %D%/fake_milter.h
%C%_milter_test_LDADD = milter-sdk/base/libbase.la
%C%_chain_libmilter_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS) $(MILTER_CFLAGS)
%C%_chain_libmilter_test_LDADD = $(%C%_chain_test_LDADD) $(MILTER_LIBS)
%C%_breaker_test_LDADD = core/milter/libmilterc.la
%C%_chain_group_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_chain_group_test_LDADD = $(%C%_chain_test_LDADD)
%C%_chain_policy_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_chain_policy_test_LDADD = $(%C%_chain_test_LDADD)
%C%_chain_rules_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_chain_rules_test_LDADD = $(%C%_chain_test_LDADD)
%C%_chain_edits_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_chain_edits_test_LDADD = $(%C%_chain_test_LDADD)
%C%_chain_pipeline_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_chain_pipeline_test_LDADD = $(%C%_chain_test_LDADD)
%C%_chain_stream_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_chain_stream_test_LDADD = $(%C%_chain_test_LDADD)
%C%_chain_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_chain_test_LDADD = core/milter/libmilterc.la core/conf/libconf.la \
	core/smtp/libsmtp.la milter-sdk/base/libbase.la $(EVENT_LIBS) -lpthread

%C%_sdk_test_LDADD = milter-sdk/src/libmilldam.la
# what the library does not export
%C%_mta_test_LDADD = milter-sdk/src/libsdk.la $(MILTER_LIBS) -lpthread
%C%_access_test_LDADD = milters/access/libaccess.la \
	milter-sdk/base/libbase.la milter-sdk/src/libmilldam.la
%C%_relay_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_relay_test_LDADD = core/relay/librelay.la core/proc/libproc.la core/conf/libconf.la core/smtp/libsmtp.la milter-sdk/base/libbase.la -lpthread
%C%_reply_test_LDADD = core/relay/librelay.la core/proc/libproc.la core/conf/libconf.la core/smtp/libsmtp.la milter-sdk/base/libbase.la

unit_tests += %D%/data_test %D%/receiver_test %D%/smtp_test
%C%_data_test_LDADD = core/smtp/libsmtp.la milter-sdk/base/libbase.la
%C%_smtp_test_LDADD = core/smtp/libsmtp.la milter-sdk/base/libbase.la
%C%_receiver_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_receiver_test_SOURCES = %D%/receiver_test.c \
	%D%/receiver_chain.c %D%/receiver_chain.h
%C%_receiver_test_LDADD = core/receiver/libreceiver.la core/proc/libproc.la \
	core/smtp/libsmtp.la core/conf/libconf.la milter-sdk/base/libbase.la \
	$(EVENT_LIBS)
%C%_lookup_test_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS)
%C%_lookup_test_LDADD = core/lookup/liblookup.la core/route/libroute.la milter-sdk/map/libmap.la core/proc/libproc.la core/conf/libconf.la core/smtp/libsmtp.la milter-sdk/base/libbase.la -lpthread
%C%_address_test_LDADD = milters/rewrite/librewrite.la
%C%_rules_test_LDADD = milters/rewrite/librewrite.la
unit_tests += %D%/web_test
%C%_web_test_LDADD = core/web/libweb.la core/proc/libproc.la core/conf/libconf.la milter-sdk/base/libbase.la

unit_tests += %D%/tape_test
%C%_tape_test_LDADD = milter-sdk/mill/libmill.la milter-sdk/base/libbase.la

unit_tests += %D%/groups_test
%C%_groups_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_groups_test_LDADD = $(%C%_chain_test_LDADD)

# Milters side by side against one after the other; and whether faults in that
# order would be found.
unit_tests += %D%/serial_test %D%/serial_broken_test
serial_sources = %D%/serial.h %D%/serial_fakes.c %D%/serial_plan.c \
	%D%/serial_session.c %D%/serial_test.c
%C%_serial_test_SOURCES = $(serial_sources)
%C%_serial_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_serial_test_LDADD = $(%C%_chain_test_LDADD)
%C%_serial_broken_test_SOURCES = $(serial_sources) %D%/serial_broken.c
%C%_serial_broken_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS) -DBROKEN
%C%_serial_broken_test_LDADD = $(%C%_chain_test_LDADD)

unit_tests += %D%/quarantine_test
%C%_quarantine_test_LDADD = quarantine/libquarantine.la milter-sdk/base/libbase.la

unit_tests += %D%/sample_test
%C%_sample_test_CPPFLAGS = $(%C%_chain_test_CPPFLAGS)
%C%_sample_test_LDADD = $(%C%_chain_test_LDADD)
