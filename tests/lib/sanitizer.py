# SPDX-License-Identifier: ISC
"""sanitizer - a report of any sanitizer in any process fails the test

A process may close its sandbox, change its user or start another program; its
standard error stays, and so do reports written there.
"""
import re

REPORT = re.compile(
    r"^.*(?:ERROR: (?:Address|Leak|Undefined\w*)Sanitizer|"
    r"(?:Address|Leak)Sanitizer:DEADLYSIGNAL|runtime error: |"
    r"LeakSanitizer has encountered a fatal error).*$", re.M)


class Report(AssertionError):
    """What a sanitizer said."""


def refuse_reports(text):
    """Raise a Report if text, what a process printed, has one."""
    found = REPORT.search(text)
    if found:
        raise Report(text[found.start():found.start() + 6000])


class LogReader:
    """What was added to a log since the last look."""

    def __init__(self):
        self.at = 0

    def refuse_reports(self, path):
        try:
            with open(path, errors="replace") as f:
                f.seek(self.at)
                text = f.read()
                self.at = f.tell()
        except FileNotFoundError:
            return
        refuse_reports(text)
