"""DSNs of PostgreSQL in the file: no password stands in one.

ERRORS
    None raised: what is wrong is a text, without any of the DSN.
"""

import re

_PAIR_WITH_PASSWORD = re.compile(r"(?:^|[\s?&])(?:ssl)?password\s*=", re.IGNORECASE)
_URI = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
_URI_WITH_PASSWORD = re.compile(r"postgres(?:ql)?://[^/?#@]*:[^/?#]*@", re.IGNORECASE)
_PAIR = re.compile(r"\s*[a-z_]+\s*=", re.IGNORECASE)

_WITHOUT_SECRETS = (
    "found a password in it; expected none: the file is read by many. Put it into a file that only the server's "
    "user can read, and name that as password_file, or as passfile in the dsn"
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
