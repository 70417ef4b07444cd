"""Which route a recipient's domain takes.

A route lists domains: ``example.org`` is that domain, ``.example.org`` that domain and every one below it, ``*``
the rest. The most exact wins: the domain itself, then the longest suffix, then ``*``; among equals the first in
the configuration. ``<Postmaster>`` has no domain and takes ``*``.

ERRORS
    None: a domain without a route is a value (None); the scheduler defers it, for it is a mistake in the
    configuration, which an operator can correct, and not one of the sender.
"""

from collections.abc import Iterable

from pillarbox.delivery.settings import MaildirRoute, Route


class RouteTable:
    """The routes of one configuration, ready to be asked."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Route] = {}
        self._below: dict[str, Route] = {}
        self._rest: Route | None = None
        for route in routes:
            for domain in route.domains:
                self._add(domain.lower(), route)

    def _add(self, domain: str, route: Route) -> None:
        if domain == "*":
            self._rest = self._rest or route
        elif domain.startswith("."):
            self._below.setdefault(domain[1:], route)
        else:
            self._exact.setdefault(domain, route)

    def find(self, domain: str) -> Route | None:
        """The route for a domain (lower case; "" for <Postmaster>), or None."""
        route = self._exact.get(domain)
        if route is not None or not self._below:
            return route or self._rest
        below = domain
        while below:
            route = self._below.get(below)
            if route is not None:
                return route
            below = below.partition(".")[2]
        return self._rest


def next_hop(route: Route) -> str:
    """The next hop's name in the log, in outcomes and in bounces: ``host:port``, or ``maildir:path``."""
    if isinstance(route, MaildirRoute):
        return f"maildir:{route.path}"
    host = f"[{route.host}]" if ":" in route.host else route.host
    return f"{host}:{route.port}"
