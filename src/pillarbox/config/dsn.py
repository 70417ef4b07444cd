"""DSNs of PostgreSQL in the file: no password stands in one, and whether the server shows who it is.

ERRORS
    None raised: what is wrong is a text, without any of the DSN.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from pillarbox.config.values import is_loopback

_PAIR_WITH_PASSWORD = re.compile(r"(?:^|[\s?&])(?:ssl)?password\s*=", re.IGNORECASE)
_URI = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
_URI_WITH_PASSWORD = re.compile(r"postgres(?:ql)?://[^/?#@]*:[^/?#]*@", re.IGNORECASE)
_PAIR = re.compile(r"\s*[a-z_]+\s*=", re.IGNORECASE)
_EACH_PAIR = re.compile(r"\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))", re.DOTALL)
_PARTS_OF_URI = re.compile(r"[^:]*://(?:[^/@]*@)?([^/?]*)(?:/[^?]*)?(?:\?(.*))?", re.DOTALL)
_HOST_OF_URI = re.compile(r"\[([^\]]*)\].*|([^:]*).*", re.DOTALL)

_WITHOUT_SECRETS = (
    "found a password in it; expected none: the file is read by many. Put it into a file that only the server's "
    "user can read, and name that as password_file, or as passfile in the dsn"
)
_SHOWING = (
    "expected sslmode=verify-full beside it, and sslrootcert=/path/of/the/authority.pem (or sslrootcert=system): "
    "otherwise whoever is on the way reads the answers or gives some of their own"
)


def mistake_in(dsn: str) -> str:
    """What is wrong with it, in words; "" for nothing."""
    if _PAIR_WITH_PASSWORD.search(dsn) or _URI_WITH_PASSWORD.match(dsn):
        return _WITHOUT_SECRETS
    if not _URI.match(dsn) and not _PAIR.match(dsn):
        return (
            "found something else than a DSN; expected one as libpq takes it, such as "
            '"host=pg1,pg2,pg3 dbname=pillarbox user=pillarbox"'
        )
    return ""


def exposed_in(dsn: str) -> str:
    """Why somebody between us and the server could be taken for it, in words; "" where nobody could. Without a host,
    libpq takes a socket on this machine; what a service says is not seen here, so its host counts as another's."""
    said: dict[str, str] = {}
    for key, value in _uri_pairs(dsn) if _URI.match(dsn) else _pairs(dsn):
        if key in ("ssl", "requiressl"):  # older names of sslmode=require
            key, value = "sslmode", "require"
        said[key] = value  # the last one counts
    if said.get("sslmode") == "verify-full":
        return ""
    if said.get("service"):
        return f"found a service; {_SHOWING}"
    hosts = [host.strip() for key in ("host", "hostaddr") for host in said.get(key, "").split(",")]
    if all(not host or host.startswith("/") or is_loopback(host) for host in hosts):
        return ""
    return f"found a host that is neither a socket's folder nor this machine's loopback; {_SHOWING}"


def _pairs(dsn: str) -> Iterator[tuple[str, str]]:
    for key, quoted, plain in _EACH_PAIR.findall(dsn):
        yield key, re.sub(r"\\(.)", r"\1", quoted or plain, flags=re.DOTALL)


def _uri_pairs(dsn: str) -> Iterator[tuple[str, str]]:
    """As libpq splits it: all before an "@" is the user, and what stands behind the "?" counts more."""
    found = _PARTS_OF_URI.fullmatch(dsn)
    if found is None:
        return
    hosts = [_HOST_OF_URI.fullmatch(host) for host in found[1].split(",")]
    yield "host", ",".join(unquote(host[1] or host[2] or "") for host in hosts if host)
    for pair in (found[2] or "").split("&"):
        key, _, value = pair.partition("=")
        yield unquote(key), unquote(value)
