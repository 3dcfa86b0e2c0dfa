# SPDX-License-Identifier: ISC
"""allactions SOCKET - a filter on python3-milter, hence on libmilter, that
does what the mail asks of it.

The local part of a recipient names a reply at RCPT, that of the sender one at
MAIL; words of the subject name replies and changes further on.  X-Seen tells
what the callbacks saw.
"""
import sys
import time

import Milter

VERDICTS = {"reject": Milter.REJECT, "tempfail": Milter.TEMPFAIL,
            "discard": Milter.DISCARD, "accept": Milter.ACCEPT}

MACROS = """i j _ v daemon_name daemon_addr daemon_port if_name if_addr
client_addr client_name client_port client_ptr client_resolve
client_connections auth_type auth_authen tls_version mail_mailer mail_host
mail_addr rcpt_mailer rcpt_host rcpt_addr msg_id msg_size nrcpts""".split()


class AllActions(Milter.Base):
    def __init__(self):
        self.name = ""

    def connect(self, *_):
        return Milter.CONTINUE

    def hello(self, name):
        self.name = name
        return Milter.REJECT if name == "reject.test" else Milter.CONTINUE

    def envfrom(self, sender, *_):
        self.sender = sender
        self.rcpts = []
        self.fields = self.size = 0
        self.words = []
        self.id = self.getsymval("i")
        local = sender.strip("<>").split("@")[0]
        return VERDICTS.get(local, Milter.CONTINUE)

    def envrcpt(self, rcpt, *_):
        self.rcpts.append(rcpt)
        local = rcpt.strip("<>").split("@")[0]
        if local == "later":
            self.setreply("450", "4.7.1", "come back later")
            return Milter.TEMPFAIL
        if local == "percent":
            self.setreply("551", "5.7.1", "not here %%x 100%% sure")
            return Milter.REJECT
        if local == "lines":
            self.setreply("550", "5.7.1", "one", "two", "three")
            return Milter.REJECT
        return VERDICTS.get(local, Milter.CONTINUE)

    def data(self):
        return Milter.CONTINUE

    def header(self, name, value):
        self.fields += 1
        if name.lower() == "subject":
            self.words = value.split()
        return Milter.REJECT if "HDRREJECT" in self.words else Milter.CONTINUE

    def eoh(self):
        return (Milter.TEMPFAIL if "EOHTEMPFAIL" in self.words
                else Milter.CONTINUE)

    def body(self, chunk):
        self.size += len(chunk)
        if "BODYREJECT" in self.words:
            return Milter.REJECT
        return Milter.SKIP if "BODYSKIP" in self.words else Milter.CONTINUE

    def eom(self):
        self.addheader("X-Seen", f"{self.name} {self.sender} "
                       f"{len(self.rcpts)} {self.fields} {self.size} "
                       f"{self.id == self.getsymval('i')}")
        self.addheader("X-Macros", ";".join(
            f"{n}={self.getsymval(n if len(n) == 1 else '{' + n + '}')}"
            for n in MACROS))
        for word in self.words:
            change = getattr(self, "do_" + word.lower(), None)
            if change is not None:
                change()
        if "REPLY554" in self.words:
            self.setreply("554", "5.6.0", "content refused")
            return Milter.REJECT
        for word in self.words:
            if word.lower() in VERDICTS:
                return VERDICTS[word.lower()]
        return Milter.CONTINUE

    def do_progress(self):
        for _ in range(4):
            time.sleep(0.5)
            self.progress()

    def do_add(self):
        self.addheader("X-Added", "one")
        self.addheader("X-Added", "two\n\tfolded")

    def do_insert(self):
        self.addheader("X-First", "at the top", 0)
        self.addheader("X-Third", "at three", 3)

    def do_change(self):
        self.chgheader("X-Dup", 2, "changed")

    def do_delete(self):
        self.chgheader("X-Dup", 1, "")

    def do_body(self):
        self.replacebody(b"replaced\r\n")
        self.replacebody(b"in two pieces\r\n")

    def do_bigbody(self):
        for _ in range(64):
            self.replacebody(b"0123456789" * 90 + b"\r\n")

    def do_addrcpt(self):
        self.addrcpt("<added@to.test>")
        self.addrcpt("<par@to.test>", "NOTIFY=NEVER")

    def do_delrcpt(self):
        self.delrcpt(self.rcpts[0])

    def do_from(self):
        self.chgfrom("<changed@from.test>")

    def do_hold(self):
        self.quarantine("held by allactions")

    def unknown(self, _):
        return Milter.CONTINUE

    def abort(self):
        return Milter.CONTINUE

    def close(self):
        return Milter.CONTINUE


Milter.factory = AllActions
Milter.set_flags(Milter.CHGBODY | Milter.CHGHDRS | Milter.ADDHDRS |
                 Milter.ADDRCPT | Milter.DELRCPT | Milter.QUARANTINE |
                 Milter.CHGFROM | Milter.ADDRCPT_PAR)
Milter.runmilter("allactions", sys.argv[1], 60)
