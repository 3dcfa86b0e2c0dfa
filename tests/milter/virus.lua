-- SPDX-License-Identifier: ISC
--
-- virus.lua - milldam-virus with virus.conf, for miltertest(8)

dofile(lib)

-- in two parts, so that no scanner removes this file
local eicar = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" ..
    "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
local fields = { { "From", "a@from.test" }, { "Subject", "x" },
	{ "MIME-Version", "1.0" },
	{ "Content-Type", "multipart/mixed; boundary=bb" } }

local function attached(data)
	return { "--bb\r\nContent-Type: text/plain\r\n\r\nhello\r\n--bb\r\n" ..
	    "Content-Type: application/octet-stream\r\n\r\n" .. data ..
	    "\r\n--bb--\r\n" }
end

local function refused(conn)
	says(conn, "reply")
	yes(mt.eom_check(conn, MT_SMTPREPLY, "550", "5.7.1",
	    "virus Milldam.Test.EICAR.UNOFFICIAL found"), "other reply")
	none(conn)
end

case("it wants header and body", function()
	local conn = mt.connect(sock)
	did(mt.negotiate(conn, nil, nil, nil))
	yes(not mt.test_option(conn, SMFIP_NOHDRS), "no header fields")
	yes(not mt.test_option(conn, SMFIP_NOBODY), "no body")
	mt.disconnect(conn)
end)

case("clean mail passes as it is", function()
	local conn = message(fields, attached("harmless"))
	says(conn, "continue")
	none(conn)
	mt.disconnect(conn)
end)

case("a virus in an attachment is refused by name", function()
	local conn = message(fields, attached(eicar))
	refused(conn)
	mt.disconnect(conn)
end)

case("messages of one connection are judged one by one", function()
	local conn = message(fields, attached(eicar))
	refused(conn)
	message(fields, attached("harmless"), nil, nil, conn)
	says(conn, "continue")
	-- one that is broken off leaves nothing behind
	mail(conn, "<a@from.test>")
	rcpt(conn, "<b@to.test>")
	for _, f in ipairs(fields) do
		did(mt.header(conn, f[1], f[2]))
	end
	did(mt.bodystring(conn, attached(eicar)[1]))
	did(mt.abort(conn))
	message(fields, attached("harmless"), nil, nil, conn)
	says(conn, "continue")
	none(conn)
	message(fields, attached(eicar), nil, nil, conn)
	refused(conn)
	mt.disconnect(conn)
end)

case("a body in pieces is one body", function()
	local all, chunks = attached(string.rep("x", 100000) .. "\r\n--bb\r\n" ..
	    "Content-Type: application/octet-stream\r\n\r\n" .. eicar)[1], {}
	for at = 1, #all, 30011 do
		table.insert(chunks, string.sub(all, at, at + 30010))
	end
	local conn = message(fields, chunks)
	refused(conn)
	mt.disconnect(conn)
end)

finish()
