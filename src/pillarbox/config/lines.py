"""Where each key of a TOML text stands: key path -> line number.

``tomllib`` forgets lines, and an error without its line is half an error. This reader goes over a text that
tomllib has accepted and notes lines only; it builds no values and checks nothing.

    locate('[[site]]\\nname = "a"') == {("site",): 1, ("site", 0): 1, ("site", 0, "name"): 2}

A path holds keys (str) and positions in arrays (int). Tables, arrays of tables, dotted keys, inline tables and
arrays over many lines are all in it; a table that is only implied ([a.b] implies a) has the line that implies it.

STANDARDS
    TOML 1.0.0.

ERRORS
    None of its own: give it only what tomllib.loads took.
"""

import re
import tomllib

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = (
    re.compile(r'"""(?:[^\\"]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}"),
    re.compile(r'"(?:[^\\"]|\\.)*"'),
    re.compile(r"'[^']*'"),
)


def locate(text: str) -> dict[Path, int]:
    """The line, from 1, of each key path in ``text``, which tomllib has accepted."""
    return _Reader(text).read()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of ``path``, or of the nearest table around it; 0 when there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 0


class _Reader:
    """Walks the text once; ``_at`` only moves forward."""

    def __init__(self, text: str) -> None:
        # tomllib reads CRLF as LF; lines are counted the same way
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._line = 1
        self._counted = 0
        self._lines: dict[Path, int] = {}
        self._elements: dict[Path, int] = {}

    def read(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Moves over what ``pattern`` matches here and returns it."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _here(self) -> int:
        """The line of the present position."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _note(self, base: Path, path: Path, line: int) -> None:
        """Notes ``path`` and whatever it implies below ``base``."""
        for length in range(len(base) + 1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _header(self) -> Path:
        line = self._here()
        double = self._text.startswith("[[", self._at)
        self._at += 2 if double else 1
        keys = self._dotted()
        self._at += 2 if double else 1
        path: Path = ()
        for number, key in enumerate(keys):
            path += (key,)
            if double and number == len(keys) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path += (self._elements[path],)
        self._note((), path, line)
        # a table that a deeper header implied earlier gets the line of its own header
        self._lines[path] = line
        return path

    def _pair(self, table: Path) -> None:
        line = self._here()
        path = table + self._dotted()
        self._note(table, path, line)
        self._at += 1  # the equals sign
        self._value(path)

    def _dotted(self) -> tuple[str, ...]:
        """One key, dotted or not; ends at what follows it ("=" or "]")."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                keys.append(_unquoted(self._string()))
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return tuple(keys)
            self._at += 1

    def _string(self) -> str:
        for pattern in _STRINGS:
            raw = self._skip(pattern)
            if raw:
                return raw
        raise AssertionError("a quote that opens no string: the text was not accepted by tomllib")

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._string()
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        position = 0
        self._skip(_BLANK)
        while self._text[self._at] != "]":
            element = (*path, position)
            self._note(path, element, self._here())
            self._value(element)
            position += 1
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip(_BLANK)
        while self._text[self._at] != "}":
            self._pair(path)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
                self._skip(_BLANK)
        self._at += 1


def _unquoted(raw: str) -> str:
    """A quoted key's text; tomllib knows the escapes."""
    value: str = tomllib.loads(f"key = {raw}")["key"]
    return value
