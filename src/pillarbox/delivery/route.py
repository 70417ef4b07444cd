"""Which route a recipient's domain takes.

A route lists domains: ``example.org`` is that domain, ``.example.org`` that domain and every one below it, ``*``
the rest. The most exact wins: the domain itself, then the longest suffix, then ``*``; among equals the first in
the configuration. ``<Postmaster>`` has no domain and takes ``*``.

A route may be for some sites only. The mail of such a site takes its own routes where one has the domain, be it by
``*``, and else those of every site.

ERRORS
    None: a domain without a route is a value (None); the scheduler defers it, for it is a mistake in the
    configuration, which an operator can correct, and not one of the sender.
"""

from collections.abc import Iterable

from pillarbox.delivery.settings import MaildirRoute, Route


class RouteTable:
    """The routes of one configuration, ready to be asked."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._of_all = _Domains()
        self._of_site: dict[str, _Domains] = {}
        for route in routes:
            tables = [self._of_site.setdefault(site, _Domains()) for site in route.sites] or [self._of_all]
            for table in tables:
                table.add(route)

    def find(self, domain: str, site: str) -> Route | None:
        """The route for a domain (lower case; "" for <Postmaster>) of a site's mail, or None."""
        own = self._of_site.get(site)
        route = own.find(domain) if own is not None else None
        return route or self._of_all.find(domain)


class _Domains:
    """Routes by domain."""

    def __init__(self) -> None:
        self._exact: dict[str, Route] = {}
        self._below: dict[str, Route] = {}
        self._rest: Route | None = None

    def add(self, route: Route) -> None:
        for domain in map(str.lower, route.domains):
            if domain == "*":
                self._rest = self._rest or route
            elif domain.startswith("."):
                self._below.setdefault(domain[1:], route)
            else:
                self._exact.setdefault(domain, route)

    def find(self, domain: str) -> Route | None:
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
