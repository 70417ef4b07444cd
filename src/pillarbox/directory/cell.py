"""The rows of the accounts in a cell: what cluster.py does with them within a transaction there.

A writer takes the numbers of its changes first (take_numbers) and holds their row until its COMMIT is confirmed: so
writers go one after the other, what it reads after that is how things are, and whoever sees a change sees all
earlier ones.

ERRORS
    None of their own. The store's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pillarbox.directory.base import Account
from pillarbox.directory.copy import Change
from pillarbox.directory.rows import dump_aliases, dump_app_passwords, load_aliases, load_app_passwords

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Statement, Transaction

PAGE = 1_000
"""Changes fetched at a time."""

_COLUMNS = (
    "login, addresses, domains, may_redirect, recipients_per_hour, disabled, generation, created_at, "
    "password_changed_at, password_hash, scram, app_passwords, aliases"
)
_MARKS = "ARRAY(SELECT mark FROM account_certificate c WHERE c.key = a.key)"
_FIND = f"SELECT key, {_COLUMNS}, {_MARKS} FROM account a WHERE key = %s"  # noqa: S608  # made of constants
_HEAD = """
    SELECT (SELECT mark FROM directory_history h WHERE h.generation = d.generation), d.generation, d.scram_key,
        EXISTS (SELECT FROM directory_history h WHERE h.generation = %s AND h.mark = %s)
    FROM directory d
"""
_CHANGES = f"""
    SELECT (SELECT mark FROM directory_history h WHERE h.generation = change.generation), change.* FROM (
        (SELECT key, {_COLUMNS}, {_MARKS} AS marks FROM account a
         WHERE generation > %(since)s ORDER BY generation LIMIT {PAGE})
        UNION ALL
        (SELECT key, login, NULL, NULL, NULL, NULL, NULL, generation, NULL, NULL, NULL, NULL, NULL, NULL, NULL
         FROM account_removed WHERE generation > %(since)s ORDER BY generation LIMIT {PAGE})
    ) AS change ORDER BY generation LIMIT {PAGE}
"""  # noqa: S608  # made of constants
_PUT = f"""
    INSERT INTO account (key, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (key) DO UPDATE SET ({_COLUMNS}) = ROW (
        EXCLUDED.login, EXCLUDED.addresses, EXCLUDED.domains, EXCLUDED.may_redirect, EXCLUDED.recipients_per_hour,
        EXCLUDED.disabled, EXCLUDED.generation, EXCLUDED.created_at, EXCLUDED.password_changed_at,
        EXCLUDED.password_hash, EXCLUDED.scram, EXCLUDED.app_passwords, EXCLUDED.aliases)
"""  # noqa: S608  # made of constants
_TAKEN = """
    SELECT a.login FROM account_certificate c JOIN account a USING (key) WHERE c.mark = ANY (%s) AND key <> %s LIMIT 1
"""
_KNOWN = """
    SELECT key FROM account WHERE key = ANY (%(keys)s)
    UNION SELECT key FROM account_removed WHERE key = ANY (%(keys)s)
"""
_REMOVED = """
    INSERT INTO account_removed (key, login, generation) VALUES (%s, %s, %s)
    ON CONFLICT (key) DO UPDATE SET login = EXCLUDED.login, generation = EXCLUDED.generation
"""


@dataclass(frozen=True, slots=True, repr=False)
class Head:
    """The last generation given out, its mark, and the key as in ScramState. ``known``: the asker's
    generation has the asker's mark, so that its copy is an earlier state of what is here."""

    mark: str
    generation: int
    scram_key: bytes
    known: bool


class HeadMissing(Exception):
    """The one row that numbers the changes is not there: somebody emptied the table."""


def add_head(transaction: "Transaction", generation: int, mark: str) -> "Statement":
    """For head(); with the asker's generation and mark."""
    return transaction.add(_HEAD, (generation, mark))


async def take_numbers(transaction: "Transaction", count: int, generation: int, mark: str) -> Head:
    """With the last of ``count`` new generations; otherwise as add_head. Raises HeadMissing."""
    transaction.add("UPDATE directory SET generation = generation + %s", (count,))
    return head(await transaction.fetch(_HEAD, (generation, mark)))


def head(rows: Sequence[tuple[Any, ...]]) -> Head:
    """Raises HeadMissing."""
    if not rows or rows[0][0] is None:
        raise HeadMissing
    mark, generation, key, known = rows[0]
    return Head(mark, generation, bytes(key), known)


def add_changes(transaction: "Transaction", since: int) -> "Statement":
    """For changes()."""
    return transaction.add(_CHANGES, {"since": since})


def changes(rows: Sequence[tuple[Any, ...]]) -> tuple[Change, ...]:
    """By generation, PAGE of them at most: then there may be more."""
    return tuple(replace(_change(rest), mark=mark) for mark, *rest in rows)


def reached(head: Head, page: Sequence[Change]) -> tuple[str, int]:
    """Mark and generation as of which a copy is that has these changes."""
    if page and (len(page) == PAGE or page[-1].generation > head.generation):
        return page[-1].mark, page[-1].generation
    return head.mark, head.generation


async def find(transaction: "Transaction", key: str) -> Account | None:
    """The account as it is now."""
    rows = await transaction.fetch(_FIND, (key,))
    return _change(rows[0]).account if rows else None


async def find_known(transaction: "Transaction", keys: Sequence[str]) -> set[str]:
    """Those of which there is, or was, an account."""
    return {key for (key,) in await transaction.fetch(_KNOWN, {"keys": list(keys)})}


async def find_taken(transaction: "Transaction", key: str, marks: Sequence[str]) -> str | None:
    """The login of another account that has one of these marks."""
    if not marks:
        return None
    rows = await transaction.fetch(_TAKEN, (list(marks), key))
    return str(rows[0][0]) if rows else None


def add_put(transaction: "Transaction", key: str, account: Account, generation: int) -> None:
    """Writes the account over the one there may be."""
    values = (
        key,
        account.login,
        list(account.addresses),
        list(account.domains),
        account.may_redirect,
        account.recipients_per_hour,
        account.disabled,
        generation,
        account.created_at,
        account.password_changed_at,
        account.password_hash,
        account.scram,
        dump_app_passwords(account.app_passwords),
        dump_aliases(account.aliases),
    )
    transaction.add(_PUT, values)
    transaction.add("DELETE FROM account_removed WHERE key = %s", (key,))
    transaction.add("DELETE FROM account_certificate WHERE key = %s", (key,))
    for mark in account.certificates:
        transaction.add("INSERT INTO account_certificate (mark, key) VALUES (%s, %s)", (mark, key))


def add_removal(transaction: "Transaction", key: str, login: str, generation: int) -> None:
    """Its certificates go with it."""
    transaction.add("DELETE FROM account WHERE key = %s", (key,))
    transaction.add(_REMOVED, (key, login, generation))


def _change(row: Sequence[Any]) -> Change:
    key, login, addresses, domains, may_redirect, per_hour, disabled, generation, created, changed, *rest = row
    password_hash, scram, app_passwords, aliases, marks = rest
    if password_hash is None:
        return Change(key, login, generation, None)
    account = Account(
        login=login,
        addresses=tuple(addresses),
        domains=tuple(domains),
        may_redirect=may_redirect,
        recipients_per_hour=per_hour,
        disabled=disabled,
        generation=generation,
        created_at=created,
        password_changed_at=changed,
        password_hash=password_hash,
        scram=scram,
        certificates=tuple(sorted(marks)),
        app_passwords=load_app_passwords(app_passwords),
        aliases=load_aliases(aliases),
    )
    return Change(key, login, generation, account)
