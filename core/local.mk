# One daemon, milldam; each process of it is a folder and a convenience library.
core_libs =

include core/proc/local.mk
include core/policy/local.mk
include core/conf/local.mk
include core/smtp/local.mk
include core/milter/local.mk
include core/spool/local.mk
include core/route/local.mk
include core/lookup/local.mk
include core/queue/local.mk
include core/relay/local.mk
include core/receiver/local.mk
include core/web/local.mk
include core/supervisor/local.mk
include core/control/local.mk
