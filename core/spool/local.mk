# core/spool
