"""Rules of [site.legacy]: a site for old devices cannot be opened to the internet, and shares nothing with others.

What such a site takes (old TLS or none, bare line feeds) is safe only where few can come. So its networks are those
that no stranger is in, or public ones small enough to be somebody's own; what stands for IPv4 addresses inside IPv6
would be all of them behind a small prefix.

STANDARDS
    RFC 1918, RFC 4193 (unique local), RFC 3927 and RFC 4291 2.5.6 (link-local); RFC 4291 2.5.5, RFC 6052, RFC 8215,
    RFC 4380 and RFC 3056 (IPv4 inside IPv6); RFC 6066 3 (why an address is not shared).

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from pillarbox.config.lines import Path as KeyPath
from pillarbox.config.model import FileTable, LegacyTable, SiteTable
from pillarbox.submission.settings import Address, Network

INSIDE = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
            *("fc00::/7", "fe80::/10", "::1/128"),
        ),
    )
)
"""Private, unique local, link-local and loopback: nobody comes from there over the internet."""

WIDEST_PUBLIC = {4: 24, 6: 48}
"""By IP version: the shortest prefix of a public network."""

MOST_PUBLIC = 16
"""Public networks of one site."""

_FOR_IPV4 = tuple(
    map(
        ip_network,
        ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
    )
)

Broken = Iterator[tuple[KeyPath, str]]


def check_legacy(tables: FileTable) -> Broken:
    """Every rule of every legacy site that is broken."""
    for number, site in enumerate(tables.site):
        if site.legacy is not None:
            yield from _networks(site.legacy, ("site", number, "legacy", "networks"))
            yield from _tls(site, site.legacy, ("site", number))
            yield from _addresses(tables, number)


def _networks(legacy: LegacyTable, at: KeyPath) -> Broken:
    public = 0
    for place, network in enumerate(legacy.networks):
        if any(_within(network, inside) for inside in INSIDE):
            continue
        public += 1
        widest = WIDEST_PUBLIC[network.version]
        if network.prefixlen < widest:
            yield (
                (*at, place),
                f'found "{network}", a public network; expected a private, unique local, link-local or loopback one, '
                f"or a public one no wider than /{widest}: a legacy site is never open to the internet",
            )
        elif any(network.version == 6 and network.overlaps(other) for other in _FOR_IPV4):
            yield (
                (*at, place),
                f'found "{network}", which stands for IPv4 addresses, of anybody; '
                "expected those IPv4 networks themselves",
            )
        elif public > MOST_PUBLIC:
            yield (
                (*at, place),
                f'found "{network}", public network number {public}; expected at most {MOST_PUBLIC}: '
                "a legacy site is never open to the internet",
            )


def _within(network: Network, other: Network) -> bool:
    if network.version == 4 and other.version == 4:
        return network.subnet_of(other)
    return network.version == 6 and other.version == 6 and network.subnet_of(other)


def _tls(site: SiteTable, legacy: LegacyTable, at: KeyPath) -> Broken:
    if "tls_minimum_version" in site.model_fields_set:
        yield (*at, "tls_minimum_version"), "found beside [site.legacy]; expected minimum_tls there"
    if legacy.minimum_tls == "none":
        key = (*at, "legacy", "minimum_tls")
        if not site.submission:
            yield key, 'found "none" without submission; expected a listener that can do without TLS'
        if site.client_certificates == "required":
            yield (
                key,
                'found "none" beside client_certificates = "required"; expected a TLS version: it is shown in TLS',
            )


def _addresses(tables: FileTable, number: int) -> Broken:
    """Its listeners are its own: what they ask for and take is settled before a name could be asked for."""
    ours = tables.site[number]
    for other_number, site in enumerate(tables.site):
        if other_number == number or (site.legacy is not None and other_number > number):
            continue
        theirs = (*site.submission, *site.submissions)
        for kind, addresses in (("submission", ours.submission), ("submissions", ours.submissions)):
            for place, address in enumerate(addresses):
                if any(_overlap(address, other) for other in theirs):
                    yield (
                        ("site", number, kind, place),
                        f'found "{address}", where site "{site.name}" listens; expected an address of its own '
                        "for a legacy site",
                    )


def _overlap(one: Address, other: Address) -> bool:
    """Whether both would get the same connections: one address, or one of them is all addresses of its family."""
    if one.port != other.port or (":" in one.host) != (":" in other.host):
        return False
    return one.host == other.host or bool({one.host, other.host} & {"0.0.0.0", "::"})  # noqa: S104 -- compared only
