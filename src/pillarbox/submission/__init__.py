"""The submission role: listeners, sessions, transactions. Internet-facing: it may append to the spool, no more."""
