"""The wrong tries of a person, for what is not a password of upstream.py: proofs of SCRAM, tokens.

    try_ = await tries.reserve(person, known_place=True)       # before it leaves; Denied: no more
    tries.give_back(try_)                                      # it was right, or has surely not come to the server

ERRORS
    NotReached: nobody can count it now.
"""

from pillarbox.directory import figures
from pillarbox.directory.base import Denied, Reason
from pillarbox.directory.budget import Budget, Try
from pillarbox.directory.settings import UpstreamSettings


class PersonTries:
    """See the module's text; the same budget as for passwords."""

    def __init__(self, settings: UpstreamSettings, budget: Budget) -> None:
        self._settings = settings
        self._budget = budget

    async def reserve(self, person: str, *, known_place: bool) -> Try | Denied | None:
        """None: nothing is counted here. Raises NotReached."""
        settings = self._settings
        if settings.wrong_tries is None:
            return None
        allowed = settings.wrong_tries if known_place else (settings.wrong_tries + 1) // 2
        try_ = await self._budget.reserve(settings.name, person, allowed, settings.wrong_window)
        if try_ is None:
            figures.SPENT.add(1, settings.name)
            cause = f"{allowed} wrong passwords within {settings.wrong_window:g} s went to the server behind"
            return Denied(Reason.LOCKED, person, {"cause": cause})
        return try_

    def give_back(self, try_: Try | None) -> None:
        """It was none."""
        if try_ is not None:
            self._budget.give_back(try_)
