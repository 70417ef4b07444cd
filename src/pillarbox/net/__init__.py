"""The asyncio edge: streams that drive an smtp.Connection, TLS contexts, names. No policy."""
