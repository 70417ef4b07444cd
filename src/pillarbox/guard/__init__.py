"""Counts attempts and quotas: stops guessers without locking owners out (R5). base.py is the seam."""
