"""A real provider's tokens by the other algorithms that providers sign with."""

from pathlib import Path

import pytest
from tests.support.oidc import AUDIENCE, running_provider

from pillarbox.directory.base import Identity
from pillarbox.directory.oauth.directory import OauthDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.token import read_header
from pillarbox.sasl.mechanism import TokenCredentials


@pytest.mark.parametrize("algorithm", ["ES256", "PS256"])
async def test_tokens_by_another_algorithm_count(algorithm: str, tmp_path: Path) -> None:
    with running_provider(tmp_path / "provider", algorithm=algorithm) as provider:
        token = provider.token_for("scanner", "jwt")
        assert read_header(token).algorithm == algorithm
        directory = OauthDirectory(OauthSettings(name="corp", issuer=provider.issuer, audiences=(AUDIENCE,)))
        assert await directory.verify_token(TokenCredentials("", token), known_place=True) == Identity(
            "scanner", frozenset(), source="corp"
        )
        directory.close()
