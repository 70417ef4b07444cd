"""kind = "dovecot": Dovecot's authentication service is asked, over its own protocol."""
