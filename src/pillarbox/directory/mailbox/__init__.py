"""kind = "imap" and kind = "pop3": the login itself is tried at the mailbox server."""
