"""Connections, transactions and migrations; the only importers of database drivers."""
