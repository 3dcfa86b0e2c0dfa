-- SPDX-License-Identifier: ISC
--
-- rewrite.lua - milldam-rewrite with rewrite.conf, for miltertest(8)

dofile(lib)

case("it wants the header, and leave to change it", function()
	local conn = mt.connect(sock)
	did(mt.negotiate(conn, nil, nil, nil))
	yes(not mt.test_option(conn, SMFIP_NOHDRS), "no header fields")
	yes(mt.test_option(conn, SMFIP_NOBODY), "body")
	yes(mt.test_action(conn, SMFIF_ADDHDRS), "cannot add")
	yes(mt.test_action(conn, SMFIF_CHGHDRS), "cannot change")
	mt.disconnect(conn)
end)

case("a field is added to every message", function()
	local conn = message({ { "From", "a@from.test" }, { "Subject", "x" } })
	says(conn, "continue")
	yes(mt.eom_check(conn, MT_HDRADD, "X-Site", "gate"), "not added")
	yes(mt.getheader(conn, "X-Site", 0) == "gate", "not there")
	for _, op in ipairs({ MT_HDRCHANGE, MT_HDRDELETE, MT_HDRINSERT,
	    MT_BODYCHANGE, MT_QUARANTINE }) do
		yes(not mt.eom_check(conn, op), "another change")
	end
	mt.disconnect(conn)
end)

case("one is changed, one inserted, two deleted", function()
	local conn = message({ { "From", "a@from.test" },
		{ "Subject", "[spam] urgent things" }, { "X-Internal", "1" },
		{ "X-Other", "1" }, { "x-internal", "2" } })
	says(conn, "continue")
	yes(mt.eom_check(conn, MT_HDRCHANGE, "Subject", "SPAM: urgent things"),
	    "not changed")
	yes(mt.eom_check(conn, MT_HDRINSERT, "X-Top", "yes"), "not inserted")
	yes(mt.eom_check(conn, MT_HDRDELETE, "X-Internal"), "not deleted")
	yes(not mt.eom_check(conn, MT_HDRDELETE, "X-Other"), "another deleted")
	mt.disconnect(conn)
end)

case("an address of a hidden domain is shown as ours", function()
	local conn = message({ { "From", "Anna <anna@host.example.org>" },
		{ "To", "bo@host.example.org" } })
	says(conn, "continue")
	yes(mt.eom_check(conn, MT_HDRCHANGE, "From", "Anna <anna@example.org>"),
	    "not changed")
	yes(not mt.eom_check(conn, MT_HDRCHANGE, "To"), "To is changed")
	mt.disconnect(conn)
end)

case("messages of one connection, one broken off, do not mix", function()
	local conn = message({ { "Subject", "[spam] one" } })
	yes(mt.eom_check(conn, MT_HDRCHANGE, "Subject", "SPAM: one"), "first")
	mail(conn, "<a@from.test>")
	rcpt(conn, "<b@to.test>")
	did(mt.header(conn, "Subject", "[spam] never"))
	did(mt.abort(conn))
	message({ { "Subject", "three" } }, nil, nil, nil, conn)
	says(conn, "continue")
	yes(not mt.eom_check(conn, MT_HDRCHANGE), "changed by an old message")
	yes(mt.eom_check(conn, MT_HDRADD, "X-Site", "gate"), "not added")
	mt.disconnect(conn)
end)

finish()
