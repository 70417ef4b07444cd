"""The site's query: its named parameters, found where they are parameters and not within a text or a comment.

    parameters("SELECT ... WHERE login = :login")          {"login"}
    renamed(query, "%({})s".format)                        for a driver that writes them otherwise

What somebody typed as login never becomes part of the query: it goes to the driver beside it.

ERRORS
    ValueError from check: what is wrong with the query, for the operator.
"""

import re
from collections.abc import Callable

PARAMETERS = ("login", "local", "domain")

_TOKEN = re.compile(
    r"""
      '(?:[^']|'')*'                       # a text; \\ in E'...' is no end of it either: see check
    | "(?:[^"]|"")*"                       # a name
    | \$([A-Za-z_]\w*)?\$.*?\$\1\$         # PostgreSQL's other texts
    | --[^\n]*
    | /\*.*?\*/
    | ::                                   # a cast
    | :([A-Za-z_]\w*)
    | ;
    | .
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_END = re.compile(r"[\s;]*\Z")


def parameters(query: str) -> set[str]:
    """The names of its parameters."""
    return {token[2] for token in _TOKEN.finditer(query) if token[2]}


def renamed(query: str, write: Callable[[str], str], escape: Callable[[str], str] = str) -> str:
    """The query with its parameters as ``write`` has them and all else as ``escape`` has it."""
    return "".join(write(token[2]) if token[2] else escape(token[0]) for token in _TOKEN.finditer(bare(query)))


def bare(query: str) -> str:
    """Without what ends it."""
    return _END.sub("", query)


def check(query: str) -> None:
    """Raises ValueError."""
    named = parameters(query)
    unknown = sorted(named - set(PARAMETERS))
    if unknown:
        raise ValueError(f"found the parameter :{unknown[0]}; expected :login, :local or :domain")
    if not {"login", "local"} & named:
        raise ValueError("found neither :login nor :local in it; expected one, such as ... WHERE login = :login")
    if re.search(r"['\"]\s*:(?:login|local|domain)\s*['\"]", query):
        raise ValueError("found a parameter in quotes; expected it without: it is no part of the text")
    if re.search(r"\b[eE]'", query):
        raise ValueError("found a text of the form E'...'; expected an ordinary one")
    if any(token[0] == ";" for token in _TOKEN.finditer(bare(query))):
        raise ValueError("found two statements; expected one")
    if not re.match(r"\s*(?:SELECT|WITH|VALUES)\b", _without_comments(query), re.IGNORECASE):
        raise ValueError("found no SELECT; expected a query that reads")


def _without_comments(query: str) -> str:
    return "".join(token[0] for token in _TOKEN.finditer(query) if not token[0].startswith(("--", "/*")))
