-- SPDX-License-Identifier: ISC
--
-- lib.lua - what scripts for OpenDKIM's miltertest(8) share
--
-- -D sock=SOCKET where the filter listens, -D lib=this file.  Each case prints
-- a line; finish() fails the script if one did not pass.

local failed = 0

local replies = {
	[SMFIR_CONTINUE] = "continue", [SMFIR_ACCEPT] = "accept",
	[SMFIR_REJECT] = "reject", [SMFIR_TEMPFAIL] = "tempfail",
	[SMFIR_DISCARD] = "discard", [SMFIR_REPLYCODE] = "reply",
	[SMFIR_SKIP] = "skip",
}

function case(name, run)
	local good, text = pcall(run)
	if good then
		mt.echo("ok - " .. name)
	else
		failed = failed + 1
		mt.echo("not ok - " .. name .. ": " .. tostring(text))
	end
end

function finish()
	if failed > 0 then
		error(failed .. " cases failed")
	end
end

-- did - a step that must be possible
function did(problem)
	if problem ~= nil then
		error(problem, 2)
	end
end

function yes(value, what)
	if not value then
		error(what, 2)
	end
end

-- says - the last reply is the one named
function says(conn, want)
	local got = replies[mt.getreply(conn)] or "no reply"
	if got ~= want then
		error(got .. ", not " .. want, 2)
	end
end

-- connected - a new session; macros: those of CONNECT beside j
function connected(addr, host, helo)
	local conn = mt.connect(sock)
	yes(conn, "no connection")
	did(mt.negotiate(conn, nil, nil, nil))
	mt.macro(conn, SMFIC_CONNECT, "j", "mt.test", "_",
	    (host or "client.test") .. " [" .. addr .. "]", "{daemon_name}", "mt")
	if not mt.test_option(conn, SMFIP_NOCONNECT) then
		did(mt.conninfo(conn, host or "client.test", addr))
	end
	if not mt.test_option(conn, SMFIP_NOHELO) then
		did(mt.helo(conn, helo or "client.test"))
	end
	return conn
end

-- mail - MAIL with a queue id, and other macros in pairs
function mail(conn, sender, ...)
	mt.macro(conn, SMFIC_MAIL, "i", "mt-id", "{mail_addr}",
	    (string.gsub(sender, "[<>]", "")), ...)
	did(mt.mailfrom(conn, sender))
end

-- rcpt - one recipient
function rcpt(conn, address)
	if mt.test_option(conn, SMFIP_NORCPT) then
		return
	end
	mt.macro(conn, SMFIC_RCPT, "{rcpt_addr}",
	    (string.gsub(address, "[<>]", "")), "{rcpt_mailer}", "esmtp")
	did(mt.rcptto(conn, address))
end

-- content - from DATA to the end of message, or until the filter has accepted;
-- fields: {{name, value}, ...}; body: chunks
function content(conn, fields, body)
	if not mt.test_option(conn, SMFIP_NODATA) then
		did(mt.data(conn))
	end
	if not mt.test_option(conn, SMFIP_NOHDRS) then
		for _, f in ipairs(fields) do
			did(mt.header(conn, f[1], f[2]))
		end
	end
	if not mt.test_option(conn, SMFIP_NOEOH) then
		did(mt.eoh(conn))
		if mt.getreply(conn) == SMFIR_ACCEPT then
			return
		end
	end
	if not mt.test_option(conn, SMFIP_NOBODY) then
		for _, chunk in ipairs(body or { "hello\r\n" }) do
			did(mt.bodystring(conn, chunk))
		end
	end
	did(mt.eom(conn))
end

-- message - one that gets as far as its end; the connection
function message(fields, body, sender, address, conn)
	conn = conn or connected("192.0.2.1")
	mail(conn, sender or "<a@from.test>")
	rcpt(conn, address or "<b@to.test>")
	content(conn, fields, body)
	return conn
end

-- none - the message was changed in no way
function none(conn)
	for _, op in ipairs({ MT_HDRADD, MT_HDRCHANGE, MT_HDRDELETE,
	    MT_HDRINSERT, MT_BODYCHANGE, MT_QUARANTINE }) do
		yes(not mt.eom_check(conn, op), "it was changed")
	end
	yes(not mt.eom_check(conn, MT_RCPTDELETE, "<b@to.test>"),
	    "the recipient is gone")
end
