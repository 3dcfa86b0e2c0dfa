# SPDX-License-Identifier: ISC
"""defects - faults to plant in the engine, and the cases that must find them

Each is a text of one source file and what takes its place; the text must be
there exactly once, wherever it has moved to.  tests/fault/planted builds the
gateway with one of them and runs its cases, all of which must fail.
"""


class Defect:
    def __init__(self, name, path, *changes, finds, runs=(), fast=False):
        self.name = name
        self.path = path
        self.changes = changes  # (old, new)
        self.finds = finds      # names of cases, or of the test's own
        self.runs = runs        # further cases to run
        self.fast = fast        # also in a plain ./check

    def apply(self, text):
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {self.path} has {old!r} "
                                 f"{text.count(old)} times")
            text = text.replace(old, new)
        return text


CODEC = "milter-sdk/base/milter.c"
CONN = "core/milter/conn.c"
STAGE = "core/milter/stage.c"
CHAIN = "core/milter/chain.c"
EDITS = "core/milter/edits.c"
HEADER = "core/milter/edit_header.c"

DEFECTS = [
    Defect("packets of length 0 are left out", CODEC,
           ("	if ((len = get32(p)) == 0) {\n		errno = EPROTO;\n"
            "		return (-1);", "	if ((len = get32(p)) == 0) {\n"
            "		pkt->code = 'p';\n		pkt->len = 0;\n"
            "		return (4);"),
           finds=["a packet says length 0"]),
    Defect("packets have no limit", CODEC,
           ("if (len - 1 > max || len - 1 > MILTER_PAYLOAD_MAX) {",
            "if (len - 1 > max && len == 0) {"),
           finds=["a packet says length of 1 MiB and one"]),
    Defect("any version is taken", "core/milter/negotiate.c",
           ("if (o->version < MILTER_VERSION_MIN || "
            "o->version > MILTER_VERSION)", "if (o->version == 12345)"),
           finds=["version 0", "version 1", "version 7"]),
    Defect("any action is taken", "core/milter/negotiate.c",
           ("if ((o->actions & ~(uint32_t)MILTER_MAY_ALL) != 0)",
            "if (o->actions == 12345)"),
           finds=["actions 0x200"]),
    Defect("changes are taken at any time", STAGE,
           ("if (l->expect[0].cmd != MILTER_EOM || l->pumping) {",
            "if (l->expect[0].cmd == 0) {"),
           finds=["a change at M", "a change at B"]),
    Defect("changes need no negotiation", STAGE,
           ("if ((l->conn->opts.actions & milter_edit_action(pkt->code)) "
            "== 0) {", "if (milter_edit_action(pkt->code) == 12345) {"),
           finds=["change h is not negotiated", "change q is not negotiated"]),
    Defect("changes need no leave", STAGE,
           ("if ((l->conf->may & milter_edit_action(pkt->code)) == 0) {",
            "if (milter_edit_action(pkt->code) == 12345) {"),
           finds=["a recipient is added without leave"]),
    Defect("changes of a failed milter count", STAGE,
           ("	outcome_clear(&l->now);\n	edits_clear(&l->edits);\n"
            "	log_warning(",
            "	if (c->q == Q_MESSAGE)\n		"
            "(void)edits_apply(l, l->groups);\n	"
            "outcome_clear(&l->now);\n	edits_clear(&l->edits);\n"
            "	log_warning("),
           finds=["it dies between two packets of a body, and may fail"],
           fast=True),
    Defect("values may have line ends", CODEC,
           ("if (*s == '\\n' && s[1] != ' ' && s[1] != '\\t')",
            "if (*s == '\\n' && s[1] == 1)"),
           finds=["a header value with a line end",
                  "a changed value with a line end"]),
    Defect("names may have anything", CODEC,
           ("if (*s <= ' ' || *s > '~' || *s == ':')", "if (*s == 1)"),
           finds=["a header name with a line end",
                  "a header name with a colon"]),
    Defect("lines of a reply may have different codes", CODEC,
           ("n > MILTER_REPLY_LINE || memcmp(s, code, 3) != 0 ||",
            "n > MILTER_REPLY_LINE || (memcmp(s, code, 3) != 0 && n == 3) ||"),
           finds=["a reply text of two codes"]),
    Defect("replies may have bare line ends", CODEC,
           ("if (s[i] == '\\0' || s[i] == '\\r' || s[i] == '\\n')",
            "if (s[i] == '\\0')"),
           finds=["a reply text with a bare LF"]),
    Defect("a percent sign stays", CODEC,
           ("if (s[i] == '%' && (++i == n || s[i] != '%')) {",
            "if (s[i] == '%' && n == 0) {"),
           finds=["a reply text with formats"]),
    Defect("421 is a refusal like others", "core/milter/answer.c",
           ("if (code == 421)", "if (code == 12345)"),
           finds=["a reply 421"]),
    Defect("progress moves every limit", CONN,
           ("if (c->deadline_us != 0 && c->deadline_us < now + us)",
            "if (c->deadline_us == 12345)"),
           ("	if (c->deadline_us != 0 && c->deadline_us <= now &&",
            "	if (c->deadline_us == 12345 &&"),
           finds=["progress for ever at RCPT"]),
    Defect("progress moves no limit", STAGE,
           ("		else if (link_waits(l))\n			"
            "conn_arm(l->conn);\n		return;", "		return;"),
           finds=["progress until it has an answer"]),
    Defect("a flood puts the end off", CONN,
           ("	    event_pending(c->timer, EV_TIMEOUT, NULL))",
            "	    c->deadline_us == 12345)"),
           finds=["pieces of one byte for ever"]),
    Defect("answers that nobody asked for are left out", STAGE,
           ("		link_fail(l, true, \"reply 0x%02x that nobody asked for\","
            "\n		    (unsigned char)pkt->code);\n		return;",
            "		return;"),
           finds=["two verdicts", "two answers to RCPT"], fast=True),
    Defect("a liar is asked again", STAGE,
           ("	l->poisoned |= poison;\n", ""),
           finds=["a liar is not asked again"]),
    Defect("a liar is off for all sessions", STAGE,
           ("	l->poisoned |= poison;\n", "	l->poisoned |= poison;\n	"
            "for (size_t i = 0; poison && i < c->n_links; i++)\n		"
            "(void)engine_mode(c->engine, l->conf->name, MODE_OFF);\n"),
           finds=["a reply: unknown"]),
    Defect("skip is taken anywhere", STAGE,
           ("		return (cmd == MILTER_HEADER);", "		return (true);"),
           finds=["skip at M", "skip at E"]),
    Defect("discard counts at CONNECT", STAGE,
           ("if (o.kind == OUT_DISCARD && strchr(\"CHU\", cmd) != NULL)",
            "if (o.kind == OUT_DISCARD && cmd == 'U')"),
           finds=["discard at CONNECT and HELO is nothing"]),
    Defect("a yes stays for the next recipient", CHAIN,
           ("	c->refused = refused;\n	c->auth_rcpt = false;\n",
            "	c->refused = refused;\n"),
           finds=["a yes of the last message"]),
    Defect("skip at RCPT is a yes", STAGE,
           ("if (cmd == MILTER_RCPT && pkt->code == MILTER_CONTINUE &&",
            "if (cmd == MILTER_RCPT && o.kind == OUT_CONTINUE &&"),
           finds=["an authoriser skips RCPT"]),
    Defect("what is in shadow counts", "core/milter/decide.c",
           ("modes[l->index] = (uint8_t)mode_of(l, step);",
            "modes[l->index] = MODE_ENFORCE;"),
           ("l->mode = mode_of(l, step);",
            "l->mode = mode_of(l, step) == MODE_OFF ? MODE_OFF : "
            "MODE_ENFORCE;"),
           finds=["changes in shadow", "changes and reject in shadow"]),
    Defect("fail-opens are not counted", "core/milter/stats.c",
           ("	l->state->fail_opens++;\n", ""),
           finds=["a lie at RCPT, on failure accept"]),
    Defect("changes have no number", EDITS,
           ("if (l->n >= LINK_EDITS_MAX || l->bytes > LINK_EDIT_BYTES) {",
            "if (l->n == SIZE_MAX) {"),
           finds=["deletions for ever"]),
    Defect("line ends across pieces are doubled", EDITS,
           ("			if (*s == '\\n') {\n				s++;\n"
            "				n--;\n			}\n			l->body_cr = "
            "false;", "			if (*s == '\\n' && !l->body_cr) {\n"
            "				s++;\n				n--;\n			}\n"
            "			l->body_cr = false;"),
           finds=["pieces of a body among other changes"]),
    Defect("a new body is not freed", EDITS,
           ("	free(l->v);\n	buf_fini(&l->body);\n", "	free(l->v);\n"),
           finds=["descriptors and memory do not grow when all is repeated"],
           runs=["a body without end"],
           fast=True),
    Defect("number 0 is no number", CODEC,
           ("if (pkt->code == MILTER_CHANGE_HEADER && e->index == 0)",
            "if (pkt->code == MILTER_CHANGE_HEADER && e->index == 12345)"),
           finds=["change number 0"]),
    Defect("positions are not bounded", HEADER,
           ("for (i = 0, n = 0; i < w->n && n < at; i++)",
            "for (i = 0, n = 0; n < at; i++)"),
           finds=["insert at 4 billion", "no process ended"]),
    Defect("our own Received can be changed", HEADER,
           ("		if (!w->v[i].f.hidden &&\n", "		if (w->v[i].f.name"
            " != NULL &&\n"),
           finds=["change our own Received"]),
    Defect("any address is taken", EDITS,
           ("	return (address_check(copy) == 0 ||",
            "	return (len > 0 ||"),
           finds=["a recipient is added with noise",
                  "a sender with no domain"]),
    Defect("changes of one group are made to all", EDITS,
           ("	uint32_t real = groups;\n	bool header",
            "	uint32_t real = groups = (1u << c->n_groups) - 1;\n"
            "	bool header"),
           ("if (c->groups[k].modes[l->index] != MODE_ENFORCE)",
            "if (c->groups[k].modes[l->index] == MODE_SHADOW)"),
           finds=["one group's milter changes and holds nothing of the "
                  "other"]),
    Defect("a replay keeps what the first endpoint changed", STAGE,
           ("	free(l->quarantine);\n	l->quarantine = NULL;\n"
            "	outcome_clear(&l->now);\n	edits_clear(&l->edits);\n",
            "	free(l->quarantine);\n	l->quarantine = NULL;\n"
            "	outcome_clear(&l->now);\n"),
           finds=["it dies amid its changes, another endpoint makes them",
                  "it would hold the message and dies, another endpoint "
                  "would not"]),
    Defect("a replay may be answered in any way", "core/milter/replay.c",
           ("	if (h->kind != o->kind || h->code != code_of(o) ||",
            "	if (h->kind == 99 ||"),
           finds=["another endpoint refuses whom the first one took",
                  "another endpoint takes whom the first one refused"]),
    Defect("connections with a message open are kept", "core/milter/pool.c",
           ("	    at_rest(l) && c->in.len == 0", "	    "
            "(at_rest(l) || l->rcpts > 0) && c->in.len == 0"),
           finds=["no other session gets a connection with a message open"]),
]
