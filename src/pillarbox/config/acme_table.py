"""The table [acme], and what it is to the rooms: how sites with certificate = "acme" get theirs.

ERRORS
    None raised: complaints are values.
"""

from collections.abc import Sequence
from pathlib import Path

from pillarbox.certificates.settings import LETS_ENCRYPT, AcmeSettings, folder_in
from pillarbox.config.fields import RESTART, Field, FilePath, Listener, Table, Text, Time
from pillarbox.submission.settings import Address

ACME = "acme"
"""What a site's ``certificate`` says in place of a path."""

_DEFAULT = AcmeSettings(Path(), ())
_EVERYWHERE = [Address("0.0.0.0", 80), Address("::", 80)]  # noqa: S104 - an authority comes from anywhere


class AcmeTable(Table):
    """The authority (ACME, RFC 8555) that sites with certificate = "acme" get their certificates from."""

    directory: Text = Field(LETS_ENCRYPT, description="The URL of its directory. Default: Let's Encrypt.")
    agree_to_terms: bool = Field(
        False, description="Whether you agree to the authority's terms of service. Nothing is asked for unless true."
    )
    email: Text | None = Field(None, description="Where the authority may write to.")
    listen: list[Listener] = Field(
        _EVERYWHERE,
        min_length=1,
        description="Where its http-01 challenges are answered; it comes to port 80 of the site's name." + RESTART,
        json_schema_extra={"default": [str(address) for address in _EVERYWHERE]},
    )
    hook: list[Text] = Field(
        [],
        description="A program that makes TXT records, with its arguments: dns-01 takes http-01's place." + RESTART,
    )
    hook_time: Time = Field(_DEFAULT.hook_time, description="How long it may take until the world sees the record.")
    external_account: Text | None = Field(
        None, description="The name (key identifier) of an account that the authority gave out; some want one."
    )
    external_key_file: FilePath | None = Field(None, description="A file with that account's HMAC key (base64url).")
    ca: FilePath | None = Field(None, description="CA certificates that the authority's own is checked with.")


def build_acme(
    table: AcmeTable | None, names: Sequence[str], data_directory: Path, base: Path
) -> AcmeSettings | None:
    """The room's settings; None when no site wants an authority's certificate (``names``: those that do)."""
    if table is None or not names:
        return None
    return AcmeSettings(
        folder=folder_in(data_directory),
        names=tuple(names),
        directory=table.directory,
        email=table.email,
        authority=base / table.ca if table.ca is not None else None,
        listen=tuple((address.host, address.port) for address in table.listen),
        hook=tuple(table.hook),
        hook_time=table.hook_time,
        external_account=table.external_account,
        external_key_file=base / table.external_key_file if table.external_key_file is not None else None,
    )
