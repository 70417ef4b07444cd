"""A real ACME authority for tests: Pebble (Debian's package of that name), on loopback, with certificates of its own.

    with running_pebble(folder, authority, nameserver, responder_port) as pebble:
        ... directory = pebble.directory, ca = pebble.ca ...
        trusted = pebble.roots()         # what clients of the issued certificates should trust

It asks the test's name server and looks for http-01 at ``responder_port``, whatever the name's address is: give the
name the address 127.0.0.1. It validates at once, every time anew. ``stop`` and ``start``: an authority that is away.
"""

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.certs import Authority, Issued
from tests.support.nameserver import NameServer
from tests.support.ports import steady_ports
from tests.support.processes import until_ready


@dataclass
class Pebble:
    """See the module's text."""

    folder: Path
    served: Issued
    names: NameServer
    responder_port: int
    validity: int | None
    port: int
    management: int
    external: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> str:
        """The URL of its directory."""
        return f"https://localhost:{self.port}/dir"

    @property
    def ca(self) -> Path:
        """What its HTTPS is checked with."""
        return self.served.ca

    def start(self) -> None:
        """Starts it and returns when it answers."""
        table: dict[str, object] = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.served.certificate),
            "privateKey": str(self.served.key),
            "httpPort": self.responder_port,
            "tlsPort": 1,
        }
        if self.validity is not None:
            table["certificateValidityPeriod"] = self.validity
        if self.external:
            table |= {"externalAccountBindingRequired": True, "externalAccountMACKeys": dict(self.external)}
        configuration = self.folder / "pebble.json"
        configuration.write_text(json.dumps({"pebble": table}))
        environment = {
            **os.environ,
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_AUTHZREUSE": "0",
            "PEBBLE_WFE_NONCEREJECT": "20",
        }
        with (self.folder / "pebble.log").open("ab") as log:
            self.process = subprocess.Popen(
                ("pebble", "-config", str(configuration), "-dnsserver", f"127.0.0.1:{self.names.port}"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        until_ready(self.process, lambda: self._get(self.directory), (self.folder / "pebble.log").read_text)

    def stop(self) -> None:
        """Ends it: nobody answers any more. A new start has other roots and knows no account."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def roots(self) -> Path:
        """A file with the root that it issues under since its last start."""
        path = self.folder / f"pebble-root-{time.monotonic_ns()}.pem"
        path.write_bytes(self._get(f"https://localhost:{self.management}/roots/0"))
        return path

    def _get(self, url: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.served.ca))
        there = urlsplit(url)
        asking = http.client.HTTPSConnection(there.hostname or "", there.port, timeout=5, context=context)
        try:
            asking.request("GET", there.path)
            return asking.getresponse().read()
        finally:
            asking.close()


@contextmanager
def running_pebble(
    folder: Path,
    authority: Authority,
    names: NameServer,
    responder_port: int,
    *,
    validity: int | None = None,
    external: Mapping[str, str] | None = None,
) -> Iterator[Pebble]:
    """Pebble in ``folder`` for the time of the block. ``validity``: lifetime of what it issues, seconds;
    ``external``: the accounts that it gave out, to which alone it issues, with their keys."""
    port, management = steady_ports(2)
    pebble = Pebble(
        folder,
        authority.issue("localhost", "127.0.0.1"),
        names,
        responder_port,
        validity,
        port,
        management,
        external or {},
    )
    pebble.start()
    try:
        yield pebble
    finally:
        pebble.stop()
