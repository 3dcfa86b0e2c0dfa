-- SPDX-License-Identifier: ISC
--
-- tag-external.lua - the SDK's example with tag-external.conf, for
-- miltertest(8)

dofile(lib)

local function tagged(conn)
	says(conn, "continue")
	yes(mt.eom_check(conn, MT_HDRCHANGE, "Subject", "[EXTERNAL] hello"),
	    "no tag")
	yes(mt.eom_check(conn, MT_HDRADD, "X-External", "yes"), "no field")
end

-- sent - hello with what a stage that the filter leaves out allows
local function sent(addr, subject, conn, ...)
	conn = conn or connected(addr)
	mail(conn, "<a@from.test>", ...)
	rcpt(conn, "<b@to.test>")
	if mt.getreply(conn) ~= SMFIR_ACCEPT then
		content(conn, { { "Subject", subject } })
	end
	return conn
end

case("it wants neither recipients nor body", function()
	local conn = mt.connect(sock)
	did(mt.negotiate(conn, nil, nil, nil))
	yes(mt.test_option(conn, SMFIP_NOBODY), "body")
	yes(mt.test_option(conn, SMFIP_NOHELO), "HELO")
	yes(not mt.test_option(conn, SMFIP_NOHDRS), "no header fields")
	mt.disconnect(conn)
end)

case("mail from outside is tagged, message after message", function()
	local conn = sent("203.0.113.9", "hello")
	tagged(conn)
	sent(nil, "hello", conn)
	tagged(conn)
	mt.disconnect(conn)
end)

case("a tag is not put twice", function()
	local conn = sent("203.0.113.9", "Re: [EXTERNAL] hello")
	says(conn, "continue")
	yes(not mt.eom_check(conn, MT_HDRCHANGE), "tagged again")
	mt.disconnect(conn)
end)

case("mail from inside, or of a login, is left alone", function()
	local conn = sent("192.0.2.1", "hello")
	none(conn)
	mt.disconnect(conn)
	conn = sent("203.0.113.9", "hello", nil, "{auth_authen}", "anna")
	none(conn)
	mt.disconnect(conn)
end)

finish()
