"""The rules of the house that reviewers forget. Each takes text and answers with complaints: none is good.

A complaint is ``where: what``, so that a failing test says all of them at once.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from io import StringIO

MAX_FILE = 500
MAX_FUNCTION = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef

# What only makes sense on one machine, and where packages were fetched from
_MACHINE = re.compile(r"/(?:home|root|mnt|Users|work(?:space)?)/\w+|//[\w.-]*(?:pypi|npm|wheels)[\w.-]*/")
_IGNORE = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no cover)"
    r"(?P<codes>:?\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*|\[[\w, -]+\])?"
)
_CODE_IN_DATA = frozenset({"pickle", "marshal", "shelve", "yaml", "dill"})
_SECRET_FIELDS = {"password", "secret", "token", "authorization", "credentials", "response", "initial_response"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "bind"}


def too_long(where: str, text: str) -> list[str]:
    """Files of at most 500 lines, functions of at most 60 behind their signature (a command's options are data)."""
    lines = text.count("\n")
    complaints = [f"{where}: {lines} lines, at most {MAX_FILE}"] if lines > MAX_FILE else []
    for name, function in _functions(ast.parse(text)):
        length = (function.end_lineno or function.lineno) - function.body[0].lineno + 1
        if length > MAX_FUNCTION:
            complaints.append(f"{where}:{function.lineno}: {name} has {length} lines, at most {MAX_FUNCTION}")
    return complaints


def undocumented(where: str, text: str, inherited: frozenset[str] = frozenset()) -> list[str]:
    """A docstring on the module and on each public function, class and method.

    ``inherited``: names of methods that some Protocol documents; who implements it need not say it again.
    """
    tree = ast.parse(text)
    complaints = [] if ast.get_docstring(tree) else [f"{where}: no module docstring"]
    for name, node in _public(tree.body, ""):
        leaf = name.rpartition(".")[2]
        if ast.get_docstring(node) or ("." in name and (leaf in inherited or leaf.startswith("__"))):
            continue
        if not _is_declaration(node):
            complaints.append(f"{where}:{node.lineno}: {name} has no docstring")
    return complaints


def documented_by_protocols(text: str) -> frozenset[str]:
    """Names of the methods that Protocols in ``text`` have; a Protocol's own docstring may speak for them."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases):
            names |= {item.name for item in node.body if isinstance(item, Function)}
    return frozenset(names)


def unexplained_ignores(where: str, text: str) -> list[str]:
    """Every noqa, type: ignore and pragma has codes and, beside it or in the comment above, its reason."""
    complaints = []
    comments = {token.start[0]: token.string for token in _comments(text)}
    lines = text.splitlines()
    for number, comment in comments.items():
        found = _IGNORE.search(comment)
        if found is None:
            continue
        rest = comment[: found.start()] + comment[found.end() :]
        above = comments.get(number - 1, "") if number > 1 and lines[number - 2].lstrip().startswith("#") else ""
        if not found["codes"] and "pragma" not in found[0]:
            complaints.append(f"{where}:{number}: an ignore without codes ignores everything")
        if not re.search(r"[a-z]{2}", rest) and not re.search(r"[a-z]{2}", above):
            complaints.append(f"{where}:{number}: an ignore without its reason")
    return complaints


def machine_bound(where: str, text: str) -> list[str]:
    """No path of one machine, no host of a package registry."""
    return [
        f"{where}:{number}: {found[0]!r} is true on one machine only"
        for number, line in enumerate(text.splitlines(), 1)
        for found in [_MACHINE.search(line)]
        if found
    ]


def logged_secrets(where: str, text: str) -> list[str]:
    """No log call is handed a field that is a secret by its name (redaction is the second net, not the first)."""
    complaints = []
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = ast.unparse(node.func.value)
        if node.func.attr in _LOG_METHODS and re.search(r"\b_?log(ger)?\b", owner):
            fields = {keyword.arg for keyword in node.keywords if keyword.arg} & _SECRET_FIELDS
            complaints += [f"{where}:{node.lineno}: a log call gets {field}" for field in sorted(fields)]
    return complaints


def executed(where: str, text: str) -> list[str]:
    """Nothing is given to a shell, evaluated, or read in a form that can hold code."""
    complaints = []
    for node in ast.walk(ast.parse(text)):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names} & _CODE_IN_DATA
        elif isinstance(node, ast.ImportFrom):
            names = {node.module or ""} & _CODE_IN_DATA
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = {node.func.id} & {"eval", "exec", "compile", "__import__"}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names = {node.func.attr} & {"system", "popen", "create_subprocess_shell", "getoutput", "getstatusoutput"}
        if isinstance(node, ast.keyword) and node.arg == "shell":
            names = {"shell"}
        complaints += [
            f"{where}:{getattr(node, 'lineno', 0)}: {name} runs what it is given" for name in sorted(names)
        ]
    return complaints


def able_to_fail(text: str, elsewhere: frozenset[str] = frozenset()) -> frozenset[str]:
    """Names of functions that assert or raise, or call one that does (here, or ``elsewhere``)."""
    functions = list(_functions(ast.parse(text)))
    able = elsewhere
    while True:
        more = {f.name for _, f in functions if any(_can_fail(node, able) for node in ast.walk(f))} | elsewhere
        if more == able:
            return able
        able = frozenset(more)


def tests_that_cannot_fail(where: str, text: str, elsewhere: frozenset[str] = frozenset()) -> list[str]:
    """A test function asserts, expects an exception, or calls something that does."""
    able = able_to_fail(text, elsewhere)
    return [
        f"{where}:{function.lineno}: {name} asserts nothing"
        for name, function in _functions(ast.parse(text))
        if function.name.startswith("test_") and function.name not in able
    ]


def _can_fail(node: ast.AST, able: frozenset[str]) -> bool:
    if isinstance(node, ast.Assert | ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).rpartition(".")[2]
    return called in able or bool(re.match(r"_?(assert|check|expect|raises|warns|fail|timeout$)", called))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from _functions(node, prefix)


def _public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not (node.name.startswith("_") and node.name[1:2] != "_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")


def _is_declaration(node: Function | ast.ClassDef) -> bool:
    """A body of ``...`` alone (a Protocol's method, an overload), or an override that a decorator marks."""
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    if any("overload" in mark or mark.endswith(".setter") for mark in marks):
        return True
    only = node.body[0] if len(node.body) == 1 else None
    return isinstance(node, Function) and isinstance(only, ast.Expr) and ast.unparse(only) == "..."


def _comments(text: str) -> Iterator[tokenize.TokenInfo]:
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token
