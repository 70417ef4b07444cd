"""The rows of accounts.db: its tables, and what is done with one account within a transaction.

Generations come from one sequence for all accounts. A removal is remembered, for workers that were away.

Aliases compare by domino_names.name_key: as logins do, and however Domino writes a name.

ERRORS
    AccountExists, UnknownAccount, CertificateTaken.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from pillarbox.control.frames import from_body
from pillarbox.directory.base import (
    Account,
    AccountExists,
    Alias,
    AppPassword,
    CertificateTaken,
    ScramState,
    UnknownAccount,
)
from pillarbox.directory.domino_names import name_key
from pillarbox.directory.preparation import login_key
from pillarbox.store.sqlite import Database

MISSING_CEILING = 256
"""Accounts without a SCRAM secret that are told of by name."""

MIGRATIONS = (
    """
    CREATE TABLE accounts (
        key TEXT PRIMARY KEY NOT NULL,
        login TEXT NOT NULL,
        addresses TEXT NOT NULL,
        domains TEXT NOT NULL,
        may_redirect INTEGER NOT NULL,
        recipients_per_hour INTEGER,
        disabled INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        created_at REAL NOT NULL,
        password_changed_at REAL NOT NULL,
        password_hash TEXT NOT NULL,
        scram TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE removed (key TEXT PRIMARY KEY NOT NULL, login TEXT NOT NULL, generation INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE generations (last INTEGER NOT NULL) STRICT;
    INSERT INTO generations (last) VALUES (0);
    """,
    """
    CREATE TABLE certificates (mark TEXT PRIMARY KEY NOT NULL, key TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX certificates_by_key ON certificates (key);
    CREATE TABLE keys (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO keys (name, value) VALUES ('scram', randomblob(32));
    CREATE INDEX accounts_without_scram ON accounts (key) WHERE scram IS NULL;
    """,
    # copied: the cluster's, too; copy: of which set of accounts, as of which of its changes; superseded: accounts of
    # this machine alone whose login the cluster turned out to have, or to have removed, with what was lost of them
    """
    ALTER TABLE accounts ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX accounts_not_copied ON accounts (key) WHERE NOT copied;
    CREATE TABLE copy (id TEXT NOT NULL, generation INTEGER NOT NULL, taken_at REAL NOT NULL) STRICT;
    CREATE TABLE superseded (
        key TEXT PRIMARY KEY NOT NULL, login TEXT NOT NULL, addresses TEXT NOT NULL, domains TEXT NOT NULL,
        password_hash TEXT NOT NULL, scram TEXT
    ) STRICT, WITHOUT ROWID;
    """,
    # JSON; an account without a password hash is a person's of another directory. app_password_use: on this machine
    """
    ALTER TABLE accounts ADD COLUMN app_passwords TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE app_password_use (id TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL, address TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    """,
    # JSON; alias: as aliases compare. A copy is taken anew: a program of before may have copied without the aliases
    """
    ALTER TABLE accounts ADD COLUMN aliases TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE aliases (alias TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (alias, key)) STRICT, WITHOUT ROWID;
    CREATE INDEX aliases_by_key ON aliases (key);
    UPDATE copy SET id = '';
    """,
)

_COLUMNS = (
    "login, addresses, domains, may_redirect, recipients_per_hour, disabled, generation, created_at, "
    "password_changed_at, password_hash, scram, app_passwords, aliases"
)
_MARKS = "(SELECT json_group_array(mark) FROM certificates WHERE certificates.key = accounts.key)"
_SELECT = f"SELECT {_COLUMNS}, {_MARKS} FROM accounts"  # noqa: S608  made of constants
_INSERT = f"INSERT OR REPLACE INTO accounts (key, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608  as above


def key_of(login: str) -> str | None:
    """What accounts are kept by; None: no account can have this login."""
    try:
        return login_key(login)
    except ValueError:
        return None


def find(db: Database, key: str) -> Account | None:
    """The account."""
    row = db.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
    return None if row is None else _account(row)


def find_named(db: Database, login: str) -> Account | None:
    """The only account that has this alias, unless it is somebody's login."""
    alias = name_key(login)
    found: Any = db.execute("SELECT key FROM aliases WHERE alias = ? LIMIT 2", (alias,)).fetchall()
    if len(found) != 1 or find(db, alias) is not None:
        return None
    return find(db, found[0][0])


def list_void(db: Database) -> set[str]:
    """Aliases, as they compare, that let nobody in as one who has them: two have them, or it is another's login."""
    found: Any = db.execute(
        "SELECT alias FROM aliases GROUP BY alias HAVING count(*) > 1 "
        "UNION SELECT alias FROM aliases JOIN accounts ON accounts.key = alias"
    ).fetchall()
    return {row[0] for row in found}


def owners_of(db: Database, names: Sequence[str], but: str) -> dict[str, str]:
    """Of these names those that another account than that of the login ``but`` has, as login or alias: whose login
    that is."""
    taken: dict[str, str] = {}
    for name in names:
        row: Any = db.execute(
            "SELECT login FROM accounts WHERE key <> ?2 AND (key = ?1 OR key IN (SELECT key FROM aliases "
            "WHERE alias = ?1)) LIMIT 1",
            (name_key(name), key_of(but) or ""),
        ).fetchone()
        if row is not None:
            taken[name] = row[0]
    return taken


def find_certified(db: Database, marks: Sequence[str]) -> Account | None:
    """The one that has the first of these marks that any has."""
    for mark in marks:
        row: Any = db.execute("SELECT key FROM certificates WHERE mark = ?", (mark,)).fetchone()
        if row is not None:
            return find(db, row[0])
    return None


def list_all(db: Database) -> list[Account]:
    """All, by key."""
    return [_account(row) for row in db.execute(f"{_SELECT} ORDER BY key")]


def list_uncopied(db: Database) -> list[Account]:
    """Those that are not known to be the cluster's, by key."""
    return [_account(row) for row in db.execute(f"{_SELECT} WHERE NOT copied ORDER BY key")]


def add(db: Database, account: Account) -> Account:
    """The account with its generation."""
    key = login_key(account.login)
    if find(db, key) is not None:
        raise AccountExists(account.login)
    db.execute("DELETE FROM removed WHERE key = ?", (key,))
    return insert(db, key, account)


def change(db: Database, login: str, make: Callable[[Account], Account]) -> Account:
    """The account as ``make`` makes it of what it is, with its next generation."""
    key = key_of(login)
    account = None if key is None else find(db, key)
    if key is None or account is None:
        raise UnknownAccount(login)
    return insert(db, key, make(account))


def remove(db: Database, login: str) -> Account:
    """The account as it was, disabled, with the generation of its removal."""
    key = key_of(login)
    account = None if key is None else find(db, key)
    if key is None or account is None:
        raise UnknownAccount(login)
    generation = next_generation(db)
    db.execute("DELETE FROM accounts WHERE key = ?", (key,))
    db.execute("DELETE FROM certificates WHERE key = ?", (key,))
    db.execute("DELETE FROM aliases WHERE key = ?", (key,))
    db.execute("INSERT OR REPLACE INTO removed VALUES (?, ?, ?)", (key, account.login, generation))
    return replace(account, disabled=True, generation=generation)


def changes_since(db: Database, generation: int | None) -> tuple[int, list[tuple[str, int]]]:
    """The last generation given out, and (login, generation) of each account changed or removed after
    ``generation`` (None: of none)."""
    last: Any = db.execute("SELECT last FROM generations").fetchone()
    if generation is None:
        return last[0], []
    rows: Any = db.execute(
        "SELECT login, generation FROM accounts WHERE generation > ?1 "
        "UNION ALL SELECT login, generation FROM removed WHERE generation > ?1",
        (generation,),
    ).fetchall()
    return last[0], [(login, changed) for login, changed in rows]


def next_generation(db: Database) -> int:
    """One that no account had before."""
    row: Any = db.execute("UPDATE generations SET last = last + 1 RETURNING last").fetchall()
    return int(row[0][0])


def insert(db: Database, key: str, account: Account) -> Account:
    """Writes the account over the one there may be, with the next generation, which is in what it returns."""
    stored = replace(account, generation=next_generation(db))
    values = (
        key,
        stored.login,
        json.dumps(stored.addresses),
        json.dumps(stored.domains),
        stored.may_redirect,
        stored.recipients_per_hour,
        stored.disabled,
        stored.generation,
        stored.created_at,
        stored.password_changed_at,
        stored.password_hash,
        stored.scram,
        dump_app_passwords(stored.app_passwords),
        dump_aliases(stored.aliases),
    )
    db.execute(_INSERT, values)
    _certify(db, key, stored.certificates)
    _name(db, key, stored.aliases)
    return stored


def _name(db: Database, key: str, aliases: Sequence[Alias]) -> None:
    db.execute("DELETE FROM aliases WHERE key = ?", (key,))
    for alias in {name_key(each.name) for each in aliases} - {"", key}:
        db.execute("INSERT INTO aliases VALUES (?, ?)", (alias, key))


def _certify(db: Database, key: str, marks: Sequence[str]) -> None:
    db.execute("DELETE FROM certificates WHERE key = ?", (key,))
    for mark in marks:
        taken: Any = db.execute(
            "SELECT login FROM accounts JOIN certificates ON accounts.key = certificates.key WHERE mark = ?", (mark,)
        ).fetchone()
        if taken is not None:
            raise CertificateTaken(taken[0])
        db.execute("INSERT INTO certificates VALUES (?, ?)", (mark, key))


def scram_state(db: Database) -> ScramState:
    """As it is now."""
    rows: Any = db.execute(
        "SELECT key FROM accounts WHERE scram IS NULL AND NOT disabled AND password_hash <> '' LIMIT ?",
        (MISSING_CEILING + 1,),
    ).fetchall()
    missing = frozenset(row[0] for row in rows[:MISSING_CEILING])
    key: Any = db.execute("SELECT value FROM keys WHERE name = 'scram'").fetchone()
    return ScramState(missing, len(rows) > MISSING_CEILING, bytes(key[0]))


def _account(row: Any) -> Account:
    login, addresses, domains, may_redirect, per_hour, disabled, generation, created, changed, hash_, *rest = row
    scram, app_passwords, aliases, marks = rest
    return Account(
        login=login,
        addresses=tuple(json.loads(addresses)),
        domains=tuple(json.loads(domains)),
        may_redirect=bool(may_redirect),
        recipients_per_hour=per_hour,
        disabled=bool(disabled),
        generation=generation,
        created_at=created,
        password_changed_at=changed,
        password_hash=hash_,
        scram=scram,
        certificates=tuple(sorted(json.loads(marks))),
        app_passwords=load_app_passwords(app_passwords),
        aliases=load_aliases(aliases),
    )


def dump_app_passwords(app_passwords: Sequence[AppPassword]) -> str:
    """As JSON."""
    return json.dumps([asdict(each) for each in app_passwords])


def load_app_passwords(text: str) -> tuple[AppPassword, ...]:
    """From JSON."""
    return from_body(tuple[AppPassword, ...], json.loads(text))


def dump_aliases(aliases: Sequence[Alias]) -> str:
    """As JSON."""
    return json.dumps([asdict(each) for each in aliases])


def load_aliases(text: str) -> tuple[Alias, ...]:
    """From JSON."""
    return from_body(tuple[Alias, ...], json.loads(text))


def note_use(db: Database, id_: str, at: float, address: str) -> None:
    """The last use of an app password."""
    db.execute("INSERT OR REPLACE INTO app_password_use VALUES (?, ?, ?)", (id_, at, address))


def uses(db: Database, ids: Sequence[str]) -> dict[str, tuple[float, str]]:
    """When and from where they were used last."""
    found: dict[str, tuple[float, str]] = {}
    for id_ in ids:
        row: Any = db.execute("SELECT at, address FROM app_password_use WHERE id = ?", (id_,)).fetchone()
        if row is not None:
            found[id_] = (row[0], row[1])
    return found
