"""An account's further login names: which may be, and how they change.

    check_aliases(["Anna Smith/Sales/Acme"])           prepared, without repeats
    changed(account, add=[...], remove=[...])          by an operator
    followed(account, ["Anna Smith", ...])             by an import: its own go, the operator's stay

ERRORS
    InvalidAccount: its text is for the operator.
"""

from collections.abc import Sequence
from dataclasses import replace

from pillarbox.directory.base import Account, Alias, InvalidAccount
from pillarbox.directory.domino_names import name_key
from pillarbox.directory.validity import check_login

ALIAS_CEILING = 64
"""Of one account."""


def is_usable(name: str) -> bool:
    """Whether it can be an alias."""
    try:
        return bool(check_aliases((name,)))
    except InvalidAccount:
        return False


def check_aliases(names: Sequence[str]) -> tuple[str, ...]:
    """Each prepared. Raises InvalidAccount."""
    by_key: dict[str, str] = {}
    for name in names:
        try:
            prepared = check_login(name)
        except InvalidAccount as error:
            raise InvalidAccount(f"alias {name!r}: {error}") from None
        if not name_key(prepared):
            raise InvalidAccount(f"alias {name!r}: nobody can have this name")
        by_key.setdefault(name_key(prepared), prepared)
    if len(by_key) > ALIAS_CEILING:
        raise InvalidAccount(f"{len(by_key)} aliases; expected {ALIAS_CEILING} at most")
    return tuple(by_key.values())


def changed(account: Account, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Account:
    """With some more, which no import takes away, and without others. Raises InvalidAccount."""
    gone = {name_key(name): name for name in remove}
    for alias in account.aliases:
        gone.pop(name_key(alias.name), None)
    if gone:
        raise InvalidAccount(f"{account.login} has no alias {next(iter(gone.values()))!r}")
    added = check_aliases(add)
    replaced = {name_key(name) for name in (*remove, *added)}
    kept = (each for each in account.aliases if name_key(each.name) not in replaced)
    aliases = tuple(sorted((*kept, *map(Alias, added)), key=lambda each: each.imported))
    if len(aliases) > ALIAS_CEILING:
        raise InvalidAccount(f"{account.login} would have {len(aliases)} aliases; expected {ALIAS_CEILING} at most")
    return replace(account, aliases=aliases)


def followed(account: Account, names: Sequence[str]) -> Account:
    """With these instead of those that an import gave it before, as many as there is room for. Raises
    InvalidAccount."""
    own = tuple(each for each in account.aliases if not each.imported)
    known = {name_key(account.login), *(name_key(each.name) for each in own)}
    imported = [Alias(name, imported=True) for name in check_aliases(names) if name_key(name) not in known]
    return replace(account, aliases=(*own, *imported[: ALIAS_CEILING - len(own)]))
