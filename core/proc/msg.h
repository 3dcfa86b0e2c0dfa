/* SPDX-License-Identifier: ISC */
#ifndef CORE_PROC_MSG_H
#define CORE_PROC_MSG_H

/*
 * What the processes say to each other.  A frame's `ref` is chosen by the side
 * that asks and repeated in the answer.  Payloads are packed (base/pack.h) in
 * the order given here; "env" is env_pack(), "route" is route_pack().
 *
 * Every payload comes from a process that may have been taken over: decode
 * with an unpacker, check unpack_end(), and drop the peer on EPROTO.
 */
enum msg_type {
	/* supervisor to any child */
	MSG_PEER = 1, /* u8 kind, u16 index; fd: a channel to that process */
	MSG_LISTEN,   /* str listener title; fd: listening socket (receiver) */
	MSG_RELOAD,   /* u32 n, n * (str file name, blob text): all files in
	                 the order read; the child parses and swaps */
	MSG_STOP,     /* -: finish what is in hand, then exit 0 */
	MSG_PING,     /* -: answer MSG_PONG within hang-time or be replaced */
	MSG_COMMAND,  /* str line: a milldamctl command for this child.  A long
	                 answer stops after REPLY_WINDOW bytes; "more" with the
	                 same ref lets REPLY_MORE bytes follow, "cancel" ends
	                 it without an answer */
	MSG_STATE,    /* str name, str value: run-time switch, e.g.
	                 "accept" "paused", "milter.virus" "shadow"; sent at
	                 start for all that are set, and on change */
	MSG_REOPEN,   /* -: reopen logs */
	MSG_RECORDING_R, /* ref of MSG_RECORDING; fd to write to, or none */
	/* any child to the supervisor */
	MSG_PONG = 32,
	MSG_READY,     /* -: first channels are up, work may come */
	MSG_REPLY,     /* ref of the command; u8 last, blob text (JSON) */
	MSG_ALARM,     /* str kind ("fail-open", "disk", "damage"), str text */
	MSG_ASK,       /* web only; fd: a socket that serves as a connection to
	                  the control socket for "metrics" and "health" */
	MSG_RECORDING, /* ref; str milter, str listener: a receiver asks for a
	                  file for a recording (record = dir) */

	/* receiver to queue */
	MSG_SUBMIT = 64, /* env; u8 where (0 inline, 1 memfd, 2 big file of
	                    MSG_BIG_FILE); u64 length; u64 offset (of the
	                    content in that file, 0 inline); u32 crc32c of
	                    content; blob content (inline, else empty); blob
	                    received: header block as received if a milter
	                    changed it, else empty; str record: the decision
	                    record, one line of JSON; blob origin: for a held
	                    message what its release needs
	                    (quarantine/quarantine.h), else empty; str instead:
	                    id of the held message whose release this is, else
	                    "".  fd with where 1 and 2.
	                    Content is what is to be delivered: CRLF line ends,
	                    no dot stuffing, our Received on top; of a message
	                    that a milter had held it is without any edit. */
	MSG_BIG_FILE,    /* -: asks for an unnamed file for a large body */
	MSG_RECORD,      /* str: decision record of mail that was not queued */
	MSG_SUBMIT_MORE, /* as MSG_SUBMIT, with the same ref: further messages
	                    of the same transaction come right after it, a
	                    MSG_SUBMIT last, and all are put, or none; one
	                    answer.  A set that is not ended is forgotten. */
	MSG_DISCARDED,   /* u32 recipients of mail that was answered 250 and
	                    dropped on a milter's word: to be counted */
	MSG_RELEASED,    /* ref of MSG_RELEASE; u8 1 it was submitted, 0 it
	                    stays held; str milter, or ""; str why */
	/* queue to receiver */
	MSG_SUBMITTED,  /* u8 status (0 on stable storage, 1 disk full,
	                   2 input/output error, 3 refused), str reason */
	MSG_BIG_FILE_R, /* fd, or none and str reason */
	MSG_ACCEPTING,  /* u8 yes, str reply ("452 4.3.1 ..."): whether MAIL
	                   may be accepted now; sent at start and on change */
	MSG_RELEASE,    /* a held message through the chain again: env as it was
	                   received; u64 length; u64 offset; u32 crc32c of
	                   content; blob content (or empty and fd: of a file
	                   that holds the range); blob origin; str milters that
	                   are passed by */
	/* receiver, queue to lookup */
	MSG_ROUTE = 96, /* str address (a@b, no brackets) */
	MSG_ROUTE_R,    /* u8 status (0 ok, 1 temporary), route, str reason */
	/* receiver to lookup */
	MSG_CLIENT,   /* str address: who is 192.0.2.1? */
	MSG_CLIENT_R, /* str name (verified, else ""), str ptr (claimed),
	                 str resolve (OK FORGED TEMP FAIL) */
	MSG_TABLE,    /* str table ("text:/path") of a rule, str key */
	MSG_TABLE_R,  /* u8 status (0 absent, 1 found, 2 failed), blob value */
	/* relay to lookup */
	MSG_HOSTS,   /* str host ("example.org", "[192.0.2.1]"), u16 port */
	MSG_HOSTS_R, /* u8 status (0 ok, 1 temporary, 2 permanent), str
	                reason ("5.1.2 ..."), u32 n, n * (str name, str
	                numeric address, u16 preference), best first */
	/* queue to relay */
	MSG_SEGMENT = 128, /* u64 file number; fd read-only: content of later
	                      MSG_DELIVER frames lies in it */
	MSG_SEGMENT_DROP,  /* u64 file number: close it */
	MSG_DELIVER,       /* u64 file number, u64 offset, u64 length, u32
	                      crc32c of that range; str host, u16 port; env
	                      with just the recipients of this hand-out */
	MSG_CANCEL,        /* ref: give up if not yet begun */
	/* relay to queue */
	MSG_OUTCOME, /* ref; u32 n, n * (u32 recipient index, u8 what
	                (enum outcome), str reply ("250 2.0.0 ok", or our
	                own reason in that form), str remote "name
	                [addr]"), u32 milliseconds; every recipient of
	                the hand-out exactly once: the hand-out is over */
	/* any child or the supervisor to the queue */
	MSG_NOTICE = 160 /* str subject, blob text: mail to postmaster */
};

enum { REPLY_WINDOW = 1 << 20, REPLY_MORE = REPLY_WINDOW / 2 };

enum outcome {
	OUTCOME_DONE,
	OUTCOME_DEFER, /* 4xx for this recipient */
	OUTCOME_FAIL,  /* 5xx for this recipient */
	OUTCOME_SITE   /* next hop could not be reached: the site's trouble */
};

/* kinds of process, in MSG_PEER and in names ("receiver.0") */
enum proc_kind {
	PROC_SUPERVISOR,
	PROC_RECEIVER,
	PROC_QUEUE,
	PROC_RELAY,
	PROC_LOOKUP,
	PROC_WEB,
	PROC_KINDS
};

const char *proc_name(enum proc_kind);

#endif
