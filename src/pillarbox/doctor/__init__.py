"""Probes from outside and what they found, in words."""
