# The leaf library, the tables and the SDK.  None may include from core/.
include milter-sdk/base/local.mk
include milter-sdk/map/local.mk
include milter-sdk/src/local.mk
include milter-sdk/examples/local.mk
include milter-sdk/man/local.mk
include milter-sdk/mill/local.mk
