"""The map from key path to line agrees with tomllib on which keys there are, and with the text on where they are."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.config.lines import Path, line_of, locate

ODD = '''\
# a comment with [brackets] and = signs
title = "x" # another
"quoted key" . 'li.teral' = { a = [1, 2,
  3], b.c = "}]" }
"\\u0041" = 1979-05-27 07:32:00
multi = """
[not.a.table]
k = 1
two quotes ""\\"
five """""
lit = \'\'\'
[[nor.this]]\'\'\'\'\'
nested = [ # comment ]
  [ 1, ], # ]
  [ { x = 1 }, { x = [ "#", ] } ],
]

[a.b.c]
k = 1
[a]
z = 2
  [ a . "b" . d ]
  k=true
[[site]]
name = "one"
  [[site.listener]]
  port = 1
  [[site.listener]]
  port = 2
  [site.tls]
  v = 1.2
[[site]]
[site.tls]
v = inf
'''


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    """Every key path of what tomllib read."""
    found = {path} if path else set()
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found |= paths_of(child, (*path, key))
    return found


def test_odd_file_has_the_paths_that_tomllib_sees() -> None:
    assert set(locate(ODD)) == paths_of(tomllib.loads(ODD))


@pytest.mark.parametrize(
    ("path", "beginning"),
    [
        (("title",), "title ="),
        (("quoted key", "li.teral", "a", 2), "  3]"),
        (("quoted key", "li.teral", "b", "c"), "  3]"),
        (("A",), '"\\u0041"'),
        (("multi",), "multi ="),
        (("lit",), "lit ="),
        (("nested", 0, 0), "  [ 1,"),
        (("nested", 1, 1, "x", 0), "  [ { x"),
        (("a", "b"), "[a.b.c]"),
        (("a",), "[a]"),
        (("a", "b", "d"), '  [ a . "b"'),
        (("site",), "[[site]]"),
        (("site", 0, "listener", 1, "port"), "  port = 2"),
        (("site", 0, "tls", "v"), "  v = 1.2"),
        (("site", 1, "tls", "v"), "v = inf"),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_is_the_one_where_the_key_stands(path: Path, beginning: str, ending: str) -> None:
    line = locate(ODD.replace("\n", ending))[path]
    assert ODD.split("\n")[line - 1].startswith(beginning)


def test_a_key_that_is_not_there_has_the_line_of_the_table_around_it() -> None:
    lines = locate("x = 1\n[a]\nb = 1\n")
    assert line_of(lines, ("a", "missing")) == 2
    assert line_of(lines, ("nowhere",)) == 0


# ---- generated files

keys = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), st.text(max_size=5))
spaces = st.sampled_from(["", " ", "\t", "  "])
breaks = st.sampled_from(["", "\n", ' # ]} """ \'\n', "\n\n\t"])


def written_key(draw: st.DrawFn, key: str) -> str:
    bare = key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()
    if bare and draw(st.booleans()):
        return key
    printable = key.isprintable() and "'" not in key
    if printable and draw(st.booleans()):
        return f"'{key}'"
    return json.dumps(key).replace("\x7f", "\\u007f")


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kinds = ["scalar", "string"] + (["array", "table"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "scalar":
        return draw(
            st.sampled_from(["1", "-0.5e3", "true", "1979-05-27T07:32:00Z", "07:32:00", "nan", "0xDEAD_BEEF"])
        )
    if kind == "string":
        return draw(
            st.sampled_from(
                [
                    '""',
                    "''",
                    '"a\\"b#"',
                    "'\\'",
                    '"""\n"" \\""""',
                    "'''\n'' '''''",
                    '"""a\n=[b]\n"""',
                    "''']\n[c]\n'''",
                ]
            )
        )
    if kind == "array":
        items = draw(st.lists(values(depth - 1), max_size=3))
        gap = draw(breaks)
        return "[" + gap + f"{gap},{gap}".join(items) + gap + "]"
    names = draw(st.lists(keys, max_size=3, unique=True))
    pairs = [f"{written_key(draw, name)}{draw(spaces)}={draw(spaces)}{draw(values(depth - 1))}" for name in names]
    return "{ " + ", ".join(pairs) + " }"


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = []
    for key in draw(st.lists(keys, max_size=4, unique=True)):
        lines.append(f"{draw(spaces)}{written_key(draw, key)}{draw(spaces)}={draw(spaces)}{draw(values())}")
    for header in draw(st.lists(st.lists(keys, min_size=1, max_size=3), max_size=4)):
        gap = draw(spaces)
        dotted = f"{gap}.{gap}".join(written_key(draw, key) for key in header)
        lines.append(f"[[{gap}{dotted}{gap}]]" if draw(st.booleans()) else f"[{gap}{dotted}{gap}] # x")
        for key in draw(st.lists(keys, max_size=2, unique=True)):
            lines.append(f"{written_key(draw, key)} = {draw(values())}")
    return "\n".join(lines)


def readable(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # two tables of one name, and such
        return None


@settings(derandomize=True, deadline=None, max_examples=400)
@given(documents())
def test_generated_files_have_the_paths_that_tomllib_sees(text: str) -> None:
    data = readable(text)
    if data is None:
        return
    lines = locate(text)
    assert set(lines) == paths_of(data)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@settings(derandomize=True, deadline=None, max_examples=200)
@given(documents(), st.integers(min_value=0, max_value=5))
def test_a_key_after_anything_has_its_own_line(text: str, blank: int) -> None:
    whole = f"{text}\n{chr(10) * blank}[zz-last]\nmarker = 1\n"
    if readable(whole) is None:
        return
    assert locate(whole)["zz-last", "marker"] == whole.count("\n")
