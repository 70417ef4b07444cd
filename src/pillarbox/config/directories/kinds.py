"""The kinds of [[directory]]: which table, which rules, which settings. A new kind adds a line to each of the three.

    AnyDirectoryTable     what the file's [[directory]] may be, told apart by ``kind``
    build(table, base)    the settings of one
    check(table)          (key, what is broken) for the rules between its keys

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pillarbox.config.directories import dovecot, ldap, local, mailbox, oauth, passwd, sql
from pillarbox.config.directories.dovecot import DovecotTable
from pillarbox.config.directories.ldap import LdapTable
from pillarbox.config.directories.local import LocalTable
from pillarbox.config.directories.mailbox import ImapTable, Pop3Table
from pillarbox.config.directories.oauth import OauthTable
from pillarbox.config.directories.passwd import PasswdTable
from pillarbox.config.directories.sql import SqlTable
from pillarbox.config.directories.table import DirectoryTable
from pillarbox.config.fields import Discriminator, Tag
from pillarbox.directory.settings import DirectorySettings

TABLES: dict[str, type[DirectoryTable]] = {
    "local": LocalTable,
    "ldap": LdapTable,
    "imap": ImapTable,
    "pop3": Pop3Table,
    "dovecot": DovecotTable,
    "oauth": OauthTable,
    "passwd": PasswdTable,
    "sql": SqlTable,
}
"""By ``kind``, in the order of the reference."""


def _kind(found: Any) -> str:
    """What the table says it is; without a word, local."""
    kind = found.get("kind", "local") if isinstance(found, dict) else getattr(found, "kind", "local")
    return kind if isinstance(kind, str) else "?"


AnyDirectoryTable = Annotated[
    Annotated[LocalTable, Tag("local")]
    | Annotated[LdapTable, Tag("ldap")]
    | Annotated[ImapTable, Tag("imap")]
    | Annotated[Pop3Table, Tag("pop3")]
    | Annotated[DovecotTable, Tag("dovecot")]
    | Annotated[OauthTable, Tag("oauth")]
    | Annotated[PasswdTable, Tag("passwd")]
    | Annotated[SqlTable, Tag("sql")],
    Discriminator(_kind),
]


def build(table: DirectoryTable, base: Path) -> DirectorySettings:
    """Its settings; paths are relative to ``base``."""
    match table:
        case LocalTable():
            return local.build(table, base)
        case LdapTable():
            return ldap.build(table, base)
        case ImapTable() | Pop3Table():
            return mailbox.build(table, base)
        case DovecotTable():
            return dovecot.build(table, base)
        case OauthTable():
            return oauth.build(table, base)
        case PasswdTable():
            return passwd.build(table, base)
        case SqlTable():
            return sql.build(table, base)
    raise AssertionError(f"{type(table).__name__} is of no kind")


def check(table: DirectoryTable) -> Iterator[tuple[str, str]]:
    """Broken rules between its own keys."""
    match table:
        case LocalTable():
            yield from local.check(table)
        case LdapTable():
            yield from ldap.check(table)
        case ImapTable() | Pop3Table():
            yield from mailbox.check(table)
        case DovecotTable():
            yield from dovecot.check(table)
        case OauthTable():
            yield from oauth.check(table)
        case SqlTable():
            yield from sql.check(table)
