# SPDX-License-Identifier: ISC
"""prometheus - a strict parser of the text exposition format, version 0.0.4

Stricter than the format where a page of ours has no reason to use its freedom:
every sample has HELP and TYPE before it, families are not split, no label or
sample comes twice, counters end in _total, histograms are whole.
"""
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
VALUE = re.compile(r"(\d+(\.\d+)?|\+Inf|NaN)\Z")


def _fail(line, why):
    raise ValueError(f"{why}: {line!r}")


def _labels(line, at):
    """({name: value}, where it ends) of what follows "{" """
    labels = {}
    while True:
        m = LABEL.match(line, at)
        if not m or m[0].startswith("__") or line[m.end():m.end() + 2] != '="':
            _fail(line, "bad label")
        if m[0] in labels:
            _fail(line, "label twice")
        at, value = m.end() + 2, []
        while line[at:at + 1] != '"':
            c = line[at:at + 1]
            if c == "\\":
                at += 1
                if line[at:at + 1] not in ("\\", '"', "n"):
                    _fail(line, "bad escape")
                c = {"n": "\n"}.get(line[at], line[at])
            elif c == "":
                _fail(line, "open label value")
            value.append(c)
            at += 1
        labels[m[0]] = "".join(value)
        at += 1
        if line[at:at + 1] == "}":
            return labels, at + 1
        if line[at:at + 1] != ",":
            _fail(line, "labels not parted by commas")
        at += 1


def _sample(line):
    m = NAME.match(line)
    if not m:
        _fail(line, "no name")
    labels, at = {}, m.end()
    if line[at:at + 1] == "{":
        labels, at = _labels(line, at + 1)
    if line[at:at + 1] != " " or not VALUE.match(line[at + 1:]):
        _fail(line, "no value")
    return m[0], labels, float(line[at + 1:])


def _histogram(name, samples):
    """buckets grow, end with +Inf, which is the count"""
    series = {}
    for n, labels, v in samples:
        rest = tuple(sorted((k, x) for k, x in labels.items() if k != "le"))
        s = series.setdefault(rest, {"b": [], "sum": None, "count": None})
        part = n[len(name):]
        if part == "_bucket":
            s["b"].append((float(labels["le"]), v))
        elif part in ("_sum", "_count") and "le" not in labels:
            s[part[1:]] = v
        else:
            raise ValueError(f"{n} in a histogram")
    for s in series.values():
        les = [le for le, _ in s["b"]]
        counts = [v for _, v in s["b"]]
        if s["sum"] is None or s["count"] is None or les != sorted(set(les)) \
                or les[-1] != float("inf") or counts != sorted(counts) or \
                counts[-1] != s["count"]:
            raise ValueError(f"broken histogram {name}")


class Page:
    def __init__(self, text):
        if not text.endswith("\n") or "\r" in text:
            raise ValueError("lines do not end with LF")
        self.types, self.helps, self.samples = {}, {}, []
        current, mine, seen = None, [], set()
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                name, _, words = line[7:].partition(" ")
                if name in self.helps or not words or not NAME.fullmatch(name):
                    _fail(line, "bad HELP")
                self._end(current, mine)
                self.helps[name], current, mine = words, name, []
            elif line.startswith("# TYPE "):
                name, _, kind = line[7:].partition(" ")
                if name != current or name in self.types or mine or \
                        kind not in ("counter", "gauge", "histogram"):
                    _fail(line, "bad TYPE")
                if (kind == "counter") != name.endswith("_total"):
                    _fail(line, "counters end in _total, nothing else does")
                self.types[name] = kind
            else:
                n, labels, value = _sample(line)
                histogram = self.types.get(current) == "histogram"
                if current not in self.types or (
                        n != current if not histogram else
                        n not in (current + "_bucket", current + "_sum",
                                  current + "_count")):
                    _fail(line, "sample outside of its family")
                key = (n, tuple(sorted(labels.items())))
                if key in seen:
                    _fail(line, "sample twice")
                seen.add(key)
                mine.append((n, labels, value))
                self.samples.append((n, labels, value))
        self._end(current, mine)

    def _end(self, current, mine):
        if current is None:
            return
        if not mine:
            raise ValueError(f"{current} has no samples")
        if self.types[current] == "histogram":
            _histogram(current, mine)

    def sum(self, name, **labels):
        """of all samples of that name with these labels; None: there is none"""
        found = [v for n, have, v in self.samples if n == name and all(
            have.get(k) == x for k, x in labels.items())]
        return sum(found) if found else None
