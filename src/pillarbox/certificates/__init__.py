"""Certificates from an ACME authority: asked for, proven, kept, renewed."""
