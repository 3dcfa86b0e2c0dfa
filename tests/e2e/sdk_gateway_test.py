# SPDX-License-Identifier: ISC
"""sdk_gateway_test - the SDK's examples, built as a third party builds them
with plain make, in a gateway's chain: mail from client to next hop"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
from gateway import INST, Client, Gateway, Tap, without_trace  # noqa: E402
from sink import Sink  # noqa: E402

tap = Tap()
DIR = tempfile.mkdtemp(prefix="milldam-examples.", dir="/tmp")
os.chmod(DIR, 0o755)  # the gateway's processes have uids of their own
SANITIZE = os.environ.get("MILLDAM_SANITIZE", "")
ENV = {"PATH": os.environ["PATH"],
       "PKG_CONFIG_PATH": os.path.join(INST, "lib/pkgconfig")}
MAIL = (b"From: a@from.test\r\nTo: b@to.test\r\nSubject: hello\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\ntext\r\n%s--b--\r\n")
PART = (b"--b\r\nContent-Disposition: attachment; filename=\"%s\"\r\n\r\n"
        b"MZ\r\n")
MILTERS = f"""
milter "tag" {{
    run = "{DIR}/tag-external/milldam-tag-external" settings = "tag.conf"
    may = {{"add-header", "change-header"}}
}}
milter "attachments" {{
    run = "{DIR}/block-attachment/milldam-block-attachment"
    settings = "block.conf"
    may = {{"quarantine"}}
}}
"""


def gateway(sink, inside, quarantine="no"):
    return Gateway(
        sink.port, chain=("access", "tag", "attachments"), milters=MILTERS,
        files={"tag.conf": f"inside = {{{inside}}}\n",
               "block.conf": f"quarantine = {quarantine}\n"})


@tap.test("plain make builds both examples from the installed SDK")
def builds():
    for name in ("tag-external", "block-attachment"):
        dst = os.path.join(DIR, name)
        shutil.copytree(os.path.join(INST, "share/milldam/examples", name),
                        dst)
        # nothing but a sanitizer, which the library needs in the program too
        how = [f"CFLAGS=-g {SANITIZE}"] if SANITIZE else []
        got = subprocess.run(["make", *how], cwd=dst, env=ENV, text=True,
                             stdin=subprocess.DEVNULL, capture_output=True,
                             timeout=120)
        assert got.returncode == 0, got.stdout + got.stderr
        assert "warning" not in got.stderr, got.stderr


@tap.test("the gateway runs them: mail from outside is tagged")
def tags():
    sink = Sink()
    with gateway(sink, "192.0.2.0/24") as g:
        reply = Client(g).send(MAIL % b"")
        assert reply.startswith("250 "), reply
        got = without_trace(sink.wait(1)[0].content)
        assert b"Subject: [EXTERNAL] hello\r\n" in got, got
        assert b"X-External: yes\r\n" in got, got
        assert got.endswith(b"text\r\n--b--\r\n"), got


@tap.test("mail from inside passes unchanged, a blocked file is refused")
def passes_and_blocks():
    sink = Sink()
    with gateway(sink, "127.0.0.0/8") as g:
        mail = MAIL % (PART % b"notes.txt")
        assert Client(g).send(mail).startswith("250 ")
        assert without_trace(sink.wait(1)[0].content) == mail
        reply = Client(g).send(MAIL % (PART % b"Run me.EXE"))
        assert reply == ("550 5.7.1 Attachments of this kind are not "
                         "accepted here: Run me.EXE"), reply
        assert len(sink.messages) == 1


@tap.test("a filter's quarantine holds the message")
def holds():
    sink = Sink()
    with gateway(sink, "127.0.0.0/8", "yes") as g:
        reply = Client(g).send(MAIL % (PART % b"a.scr"))
        assert reply.startswith("250 "), reply
        held = g.ctl_json("queue", "list")
        assert [m["state"] for m in held] == ["held"], held
        assert held[0]["reason"] == "attachment", held
        assert sink.messages == []


if __name__ == "__main__":
    try:
        tap.run()
    finally:
        shutil.rmtree(DIR, ignore_errors=True)
