# SPDX-License-Identifier: ISC
"""reload - new settings for new sessions, and nothing of the old is dropped"""
import itertools
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
from gateway import Client, Gateway, Tap, free_port, wait_for  # noqa: E402
from mails import stranger  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
sink = Sink()
MAIL = b"Subject: r\r\n\r\nx\r\n"
TAG = 'header "site" { name = "X-Tag" action = "add" value = "%s" }\n'


def text():
    with open(gate.conf) as f:
        return f.read()


def write(new):
    with open(gate.conf, "w") as f:
        f.write(new)


def reload(new=None):
    """Reload with a changed file, which must be taken."""
    if new is not None:
        write(new)
    p = gate.ctl("reload")
    assert p.returncode == 0, p.stderr


def size_of(client):
    """What EHLO says about SIZE."""
    return next(line.split()[1] for line in
                client.say("EHLO r.test").split("\n") if "SIZE" in line)


def restarts():
    return {p["name"]: (p["pid"], p["restarts"])
            for p in gate.ctl_json("status")["processes"]}


def test(name):
    """A test that begins with the settings of the start."""
    def add(fn):
        @tap.test(name)
        def _(*args):
            reload(BASE)
            fn(*args)
    return add


counter = itertools.count()


def marked():
    """A message like no other, and what it has."""
    mark = b"mark %d." % next(counter)
    return b"Subject: " + mark + b"\r\n\r\nx\r\n", mark


def arrived(mark):
    def look():
        return [m for m in sink.messages if mark in m.content]
    assert wait_for(look), mark
    return look()[0]


def answer(rcpt="b@to.test", mail=MAIL):
    """The last reply to a message of a new session."""
    return Client(gate).send(mail, rcpts=[rcpt])


def hold_transaction():
    """A session between RCPT and DATA."""
    c = Client(gate)
    for line in ("EHLO r.test", "MAIL FROM:<a@from.test>",
                 "RCPT TO:<b@to.test>"):
        assert c.say(line).startswith("250"), line
    return c


def finish(c):
    mail, mark = marked()
    assert c.say("DATA").startswith("354")
    c.sock.sendall(mail + b".\r\n")
    got = c.reply()
    assert got.startswith("250 "), got
    return arrived(mark)


for way in ("milldamctl reload", "SIGHUP"):
    @test(f"{way}: a transaction under way goes on, new sessions see the "
          "new settings")
    def _(way=way):
        size = 7000000 + (way == "SIGHUP")
        before = restarts()
        between = hold_transaction()
        inside = hold_transaction()
        assert inside.say("DATA").startswith("354")
        inside.sock.sendall(b"Subject: half\r\n\r\nfirst\r\n")
        old = text()
        new = old + f"limits {{ message-size = {size} }}\n"
        if way == "SIGHUP":
            write(new)
            gate.proc.send_signal(signal.SIGHUP)
            assert wait_for(lambda: size_of(Client(gate)) == str(size))
        else:
            reload(new)
            assert size_of(Client(gate)) == str(size)
        inside.sock.sendall(f"second by {way}\r\n.\r\n".encode())
        assert inside.reply().startswith("250 ")
        assert arrived(f"first\r\nsecond by {way}\r\n".encode())
        finish(between)
        assert restarts() == before
        reload(old)


@test("bad settings are refused with file and line; the old ones stay")
def _():
    old = text()
    was = size_of(Client(gate))
    held = hold_transaction()
    lines = len(old.splitlines())
    write(old + "limits { message-size = 5M }\nfrobnicate = yes\n"
          "limits { recipients = several }\n")
    p = gate.ctl("reload")
    assert p.returncode == 1 and p.stdout == "", p
    for n in (lines + 2, lines + 3):
        assert f"milldam.conf:{n}:" in p.stderr, p.stderr
    assert "refused" in gate.log_text()
    gate.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: gate.log_text().count(f"milldam.conf:{lines + 2}:") > 1)
    assert gate.log_text().count(f"milldam.conf:{lines + 2}:") == 2
    assert size_of(Client(gate)) == was
    finish(held)
    write(old)
    reload()


@test("what only a restart can change is refused by name")
def _():
    old = text()
    write(old.replace("/spool", "/elsewhere") + "relays = 3\n")
    p = gate.ctl("reload")
    assert p.returncode == 1, p
    assert "spool: cannot change" in p.stderr, p.stderr
    assert "relays: cannot change" in p.stderr, p.stderr
    assert "restart" in p.stderr
    reload(old)
    assert Client(gate).send(MAIL).startswith("250 ")


@test("a missing file is refused, not taken for an empty one")
def _():
    os.rename(gate.conf, gate.conf + ".away")
    p = gate.ctl("reload")
    os.rename(gate.conf + ".away", gate.conf)
    assert p.returncode == 1 and "No such file" in p.stderr, p
    assert Client(gate).send(MAIL).startswith("250 ")


@test("a new listener is served; a removed one refuses, its session stays")
def _():
    old = text()
    port = free_port()
    reload(old + f'listener "two" {{ address = "127.0.0.1:{port}" '
           'policy = "inbound" }\n')
    c = Client(gate, port=port)
    assert c.greeting.startswith("220 ")
    c.say("EHLO r.test")
    reload(old)

    def refused():
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
        except OSError:
            return True
        return False
    assert wait_for(refused, 5)
    mail, mark = marked()
    assert c.send(mail, ehlo=False).startswith("250 ")
    arrived(mark)
    assert Client(gate).send(MAIL).startswith("250 ")


@test("a listener that cannot be bound: refused, nothing has changed")
def _():
    old = text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write(old + f'listener "two" {{ address = "127.0.0.1:{port}" '
              'policy = "inbound" }\nlimits { message-size = 5M }\n')
        p = gate.ctl("reload")
    assert p.returncode == 1 and "in use" in p.stderr, p
    assert size_of(Client(gate)) != "5242880"
    reload(old)


def with_tag(old, value):
    with open(gate.dir + "/tag.conf", "w") as f:
        f.write(TAG % value)
    return old.replace(
        'chain = { "access" }', 'chain = { "access", "tag" }') + (
        'milter "tag" { run = "milldam-rewrite" settings = "tag.conf" '
        'timeout = { "connect=10s" } }\n')


def tag_of(message):
    head = message.content.split(b"\r\n\r\n")[0]
    return [line.split(b": ")[1].decode() for line in head.split(b"\r\n")
            if line.startswith(b"X-Tag")]


def sent():
    """The tag of a message that a new session sends, None if refused."""
    mail, mark = marked()
    if not answer(mail=mail).startswith("250 "):
        return None
    return tag_of(arrived(mark))


@test("a milter comes and goes: sessions keep the chain they began with")
def _():
    old = text()
    before = hold_transaction()
    reload(with_tag(old, "one"))
    assert wait_for(lambda: sent() == ["one"])
    assert tag_of(finish(before)) == []
    during = hold_transaction()
    reload(old)
    assert sent() == []
    time.sleep(0.3)
    assert tag_of(finish(during)) == ["one"]
    # its grace (stop-time) is over: the process ends and is forgotten
    assert wait_for(lambda: "milter.tag" not in restarts() and
                    "name=milter.tag pid" in gate.log_text(), 10)


@test("a milter reads its own settings again")
def _():
    old = text()
    new = with_tag(old, "two")
    reload(new)
    assert wait_for(lambda: sent() == ["two"])
    pid = restarts()["milter.tag"]
    with_tag(old, "three")
    reload(new)
    assert wait_for(lambda: sent() == ["three"])
    assert restarts()["milter.tag"] == pid
    reload(old)


@test("a milter whose command line changed is started again with it")
def _():
    old = text()
    reload(with_tag(old, "four"))
    assert wait_for(lambda: sent() == ["four"])
    pid = restarts()["milter.tag"][0]
    with open(gate.dir + "/other.conf", "w") as f:
        f.write(TAG % "five")
    reload(with_tag(old, "four").replace("tag.conf", "other.conf"))
    assert wait_for(lambda: sent() == ["five"])
    assert restarts()["milter.tag"][0] != pid
    reload(old)


@test("a mailertable in another folder is read after a reload")
def _():
    old = text()
    os.mkdir(gate.dir + "/tables")
    with open(gate.dir + "/tables/mailertable", "w") as f:
        f.write("gone.test error:5.1.2:550 no such place\n")
    reload(old + f'route {{ mailertable = "text:{gate.dir}/tables/'
           'mailertable" }\n')

    assert wait_for(lambda: answer("x@gone.test").startswith("550"), 10)
    assert answer().startswith("250 ")
    reload(old)


LOCAL = '''policy "inbound" {
    rule "trusted" { client = {"127.0.0.2/32"} skip = {"tag"} }
}
'''


@test("a file in local.d that adds a rule leaves authoriser and chain")
def _():
    old = text()
    os.makedirs(gate.dir + "/local.d", exist_ok=True)
    reload(with_tag(old, "six") + 'include "local.d/*.conf"\n')
    assert wait_for(lambda: sent() == ["six"])
    with open(gate.dir + "/local.d/10-site.conf", "w") as f:
        f.write(LOCAL)
    reload()
    assert sent() == ["six"]  # the chain is as it was
    c = stranger(gate)  # and the rule is there for 127.0.0.2
    mail, mark = marked()
    assert c.send(mail).startswith("250 ")
    assert tag_of(arrived(mark)) == []
    # the authoriser is asked still, of the client the rule names too
    with open(gate.dir + "/access.conf", "w") as f:
        f.write("relay-networks = {192.0.2.1}\n")
    reload()
    assert wait_for(lambda: answer().startswith("550 5.7.1"))
    c = stranger(gate)
    assert c.send(MAIL).startswith("550 5.7.1")


gate = Gateway(sink.port, extra="stop-time = 2s\n")
with gate:
    BASE = text()
    try:
        tap.run()
    finally:
        gate.remove()
        sink.close()
