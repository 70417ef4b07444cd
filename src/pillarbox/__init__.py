"""Pillarbox: a mail submission server (RFC 6409, RFC 8314) that stands beside the mail system a site has."""

__version__ = "0.1.0"
