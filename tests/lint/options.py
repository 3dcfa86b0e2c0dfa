#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""options.py - the manual pages and the sources know the same options

milldam.conf(5): the parser's tables are read from core/conf, the arrays of
names that conf_unused() takes, and the rows of numbers with their defaults.
The page's options are its ".It Ic" items and the blocks that begin its
sections.  Milters' pages: their tables of struct mill_option and what they ask
for by mill_conf_...().  All programs: what they give to getopt().
"""
import glob
import os
import re
import sys

top = os.environ.get("srcdir", ".")
# which section of the page tells what which table holds; that none is left
# out is checked
SECTIONS = {
    "settings.c:top_names": "GLOBAL OPTIONS",
    "settings.c:limit_rows": "LIMITS",
    "settings.c:queue_rows": "QUEUE",
    "settings.c:relay_rows": "RELAY",
    "settings.c:names": "ROUTE",
    "settings.c:web_names": "WEB",
    "settings_milter.c:names": "MILTERS",
    "settings_policy.c:policy_names": "POLICIES",
    "settings_rule.c:rule_names": "RULES",
    "settings_policy.c:listener_names": "LISTENERS",
}
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "ms": 1, "s": 1000,
         "m": 60000, "h": 3600000, "d": 86400000}
DAY = UNITS["d"]


def source_tables():
    """{file:table: {name: default or None}}"""
    tables, folder = {}, os.path.join(top, "core/conf")
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".c")):
        with open(os.path.join(folder, file)) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        for table in set(re.findall(r"conf_unused\([^;]*?(\w+)\);", text)):
            body = re.search(r"char \*const %s\[\] = \{(.*?)\};" % table, text,
                             re.S)
            if body:  # else it is built from rows
                tables[file + ":" + table] = dict.fromkeys(
                    re.findall(r'"([^"]+)"', body[1]))
        for table, body in re.findall(
                r"struct number (\w+)\[\] = \{(.*?)\n\};", text, re.S):
            tables[file + ":" + table] = {
                name: default(value) for name, value in re.findall(
                    r'\{\s*"([^"]+)",\s*\w+,\s*[^,]+,\s*([^,]+),', body)}
    return tables


def default(c):
    """the value of a constant of C"""
    c = re.sub(r"u?ll\b", "", c).replace("MS_DAY", str(DAY))
    if not re.fullmatch(r"[0-9 *<()]+", c):
        raise ValueError("default is no constant: " + c)
    return eval(c)


def items(section):
    """{option: its default in the page or None}"""
    found = {}
    for item in re.split(r"^\.It ", section, flags=re.M)[1:]:
        head, _, text = item.partition("\n")
        names = re.match(r"Ic ([a-z-]+(?: , [a-z-]+)*)", head)
        names = names[1].split(" , ") if names else []
        # options within the item, as those of a rule
        inner = re.findall(r"Ic ([a-z-]+)", head)[len(names[:1]):]
        text = text.split("\n.El")[0]
        said = re.search(r"Default (\d+[A-Za-z]*)(?: and (\d+[A-Za-z]*))?", text)
        values = [v for v in said.groups() if v] if said else []
        for i, name in enumerate(names):
            found[name] = values[i] if i < len(values) else None
        for name in inner:
            found[name] = None
    return found


def number(text):
    m = re.fullmatch(r"(\d+)([A-Za-z]*)", text)
    return int(m[1]) * UNITS[m[2]] if m and m[2] in UNITS else None


def compare(table, options, page):
    """what is wrong with one table's section"""
    section = page.get(SECTIONS[table], "")
    said, bad = items(section), []
    for name, value in options.items():
        if name not in said:
            # a block, or include, is told of where it has its place
            if not re.search(r'^(\.Ic %s( Ar .*)? \{ \}$|%s ")' % (name, name),
                             "\n".join(page.values()), re.M):
                bad.append("%s is not in %s" % (name, SECTIONS[table]))
        elif value is not None and number(said[name] or "") != value:
            bad.append("%s: default %s in the page, %s in the source" %
                       (name, said[name], value))
    return bad


def read(path):
    with open(os.path.join(top, path)) as f:
        return f.read()


def below(pattern):
    return sorted(os.path.relpath(p, top) for p in glob.glob(
        os.path.join(top, pattern), recursive=True))


def settings(page):
    """what is wrong with a milter's page"""
    text = "".join(re.sub(r"/\*.*?\*/", "", read(f), flags=re.S)
                   for f in below(os.path.dirname(page) + "/*.c"))
    names = set()
    for table in re.findall(r"struct mill_option \w+\[\] = \{(.*?)\n\};", text,
                            re.S):
        names |= set(re.findall(
            r'(?:OPTION\(|\{\s*(?:\.name = )?)"([a-z][a-z-]*)"', table))
    names |= set(re.findall(r'mill_conf_(?!error)\w+\(\s*\w+,\s*\w+,\s*"([^"]+)"',
                            text))
    heads = re.findall(r"^\.It (Ic .*)$", read(page), re.M)
    told = set(re.findall(r"[a-z][a-z-]+", " ".join(heads)))
    first = set(n for h in heads
                for n in re.match(r"Ic ([a-z-]+(?: , [a-z-]+)*)", h)[1].split(" , "))
    return (["no table of options in the source"] if not names else []) + [
        n + " is not in the page" for n in sorted(names - told)] + [
        n + " is no option" for n in sorted(first - names)]


def flags(page):
    """what is wrong with a page's flags; None: the program has no getopt()"""
    folder = os.path.dirname(page)
    if folder.startswith("milters/"):
        folder = "milter-sdk/src"
    text = "".join(read(f) for f in below(folder + "/**/*.c"))
    known = set()
    for letters in re.findall(r'getopt(?:_long)?\([^"]*"([^"]*)"', text):
        known |= set(re.findall(r"[A-Za-z]", letters))
    if not known:
        return None
    known |= set("-" + n for n in re.findall(r'\{ "([a-z-]+)", (?:[012]|no_arg|req)',
                                             text))
    told = set()
    for words in re.findall(r"\bFl (-?[A-Za-z][a-z-]*(?: , -?[A-Za-z][a-z-]*)*)",
                            read(page)):
        for word in words.split(" , "):
            told |= {word} if word.startswith("-") else set(word)  # -abc
    return [n + " is not in the page" for n in sorted(known - told)] + [
        n + " is no flag" for n in sorted(told - known)]


def main():
    parts = re.split(r"^\.Sh (.*)\n", read("policies/milldam.conf.5"),
                     flags=re.M)
    page = dict(zip(parts[1::2], parts[2::2]))
    tables = source_tables()
    results = [("each table has its section", [
        t + " is in no section" for t in tables if t not in SECTIONS] + [
        t + " is not in the source" for t in SECTIONS if t not in tables])]
    for table in sorted(set(tables) & set(SECTIONS)):
        results.append(("options of %s" % table,
                        compare(table, tables[table], page)))
    for section in sorted(set(SECTIONS.values())):
        known = set()
        for table, where in SECTIONS.items():
            known |= set(tables.get(table, ())) if where == section else set()
        results.append(("what %s tells of exists" % section, [
            "%s is no option" % name
            for name in items(page.get(section, "")) if name not in known]))
    for page in below("milters/*/*.8"):
        results.append(("settings of " + page, settings(page)))
    for page in below("core/*/*.8") + below("milters/*/*.8"):
        bad = flags(page)
        if bad is not None:
            results.append(("flags of " + page, bad))
    print("1..%d" % len(results))
    for i, (text, bad) in enumerate(results, 1):
        for line in bad:
            print("#", line)
        print("%sok %d - %s" % ("not " if bad else "", i, text))
    return any(bad for _, bad in results)


sys.exit(main())
