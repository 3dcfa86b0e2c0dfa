# One folder, one process.  A milter sees only the installed SDK headers.
include milters/access/local.mk
include milters/virus/local.mk
include milters/rewrite/local.mk
