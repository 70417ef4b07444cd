"""kind = "oauth": bearer tokens of an OAuth 2.0 or OpenID Connect provider."""
