"""Stored passwords in the forms that other systems write them; stored.py tells them apart."""
