/* SPDX-License-Identifier: ISC */
#ifndef MILTERS_VIRUS_IPC_H
#define MILTERS_VIRUS_IPC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * What the three kinds of process say to each other, over SOCK_SEQPACKET
 * pairs: one packet is one structure.
 *
 *	main ──► zygote   struct zygote_config, once; struct zygote_reply when
 *	                  the database is loaded.  Then for each scanner wanted
 *	                  struct zygote_request with one end of a new pair, and
 *	                  a struct zygote_reply when it is forked.
 *	main ──► scanner  struct scan_request with the message; struct
 *scan_reply
 *
 * A scanner parses what strangers wrote: main trusts no byte of its reply.
 * All ends when main does: the others read the end of their socket.
 */
enum { IPC_ZYGOTE_FD = 3, IPC_STRINGS_MAX = 32 << 10, IPC_TEXT_MAX = 256 };

struct zygote_config {
	uint64_t max_scansize; /* bytes of all that is unpacked */
	uint64_t temp_size;    /* bytes of one temporary file */
	uint64_t memory;       /* bytes beside the database */
	uint32_t max_files, max_recursion;
	uint32_t max_scantime_ms, scan_timeout_ms;
	uint32_t pua; /* also possibly unwanted applications */
	uint32_t n_databases;
	uint32_t strings_len;
	/* the temporary folder, then the databases; each ends with NUL */
	char strings[IPC_STRINGS_MAX];
};

struct zygote_request {
	int32_t replaces; /* pid of the scanner to end first; 0: none */
};

struct zygote_reply {
	int32_t error;      /* 0, or text says why */
	int32_t pid;        /* of the new scanner */
	int32_t old_status; /* wait status of the one replaced */
	uint32_t signatures;
	char text[IPC_TEXT_MAX];
};

struct scan_request {
	uint64_t len;
};

enum scan_result { SCAN_FAILED, SCAN_CLEAN, SCAN_VIRUS };

struct scan_reply {
	int32_t result;
	char text[IPC_TEXT_MAX]; /* the signature, or the reason */
};

/* ipc_send - one packet, with a descriptor if fd is not -1 */
int ipc_send(int sock, const void *, size_t len, int fd)
    __attribute__((__warn_unused_result__));

/*
 * ipc_recv - one packet of at most len bytes within timeout_ms (-1: for ever).
 * Its length; 0 at the end of the socket; -1 with errno, ETIMEDOUT among them,
 * EMSGSIZE for a longer packet.  *fd_r (may be NULL: none is taken) is the
 * descriptor that came with it, or -1; it is closed on exec.
 */
ssize_t ipc_recv(int sock, void *, size_t len, int *fd_r, int timeout_ms)
    __attribute__((__warn_unused_result__));

int64_t ipc_now_ms(void); /* monotonic */

#endif
