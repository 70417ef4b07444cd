"""A configuration with one [[directory]] called "corp", which its site asks; for the tests of each kind."""

from pathlib import Path

import pytest

from pillarbox.config import ConfigError, Settings, parse

HERE = Path("/etc/pillarbox/pillarbox.toml")
SITE = """
[[site]]
name = "mail.example.org"
submissions = ["127.0.0.1:5465"]
certificate = "certificate.pem"
key = "key.pem"
directories = ["corp"]
[[route]]
host = "mx.example.org"
"""


def taken(table: str, site: str = SITE, at: Path = HERE) -> Settings:
    """What becomes of it; ``table`` without its header and its name. Raises ConfigError."""
    return parse(f'[[directory]]\nname = "corp"\n{table}{site}', at)


def mistakes(table: str, site: str = SITE) -> list[str]:
    """The same when it is refused: "key: reason" of each mistake."""
    with pytest.raises(ConfigError) as caught:
        taken(table, site)
    return [f"{mistake.key}: {mistake.message}" for mistake in caught.value.mistakes]
