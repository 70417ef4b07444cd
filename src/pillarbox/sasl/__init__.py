"""SASL exchanges without I/O, both roles. Imports nothing of ours."""
