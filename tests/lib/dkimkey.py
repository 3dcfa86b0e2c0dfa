# SPDX-License-Identifier: ISC
"""dkimkey - a key to sign with, and what the DNS says about it"""
import subprocess


def dkim_key():
    """The private key as PEM, and the TXT record of the public one."""
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True,
                         capture_output=True, text=True).stdout
    pub = subprocess.run(["openssl", "rsa", "-pubout"], check=True, input=key,
                         capture_output=True, text=True).stdout
    return key, "v=DKIM1; k=rsa; p=" + "".join(pub.splitlines()[1:-1])
