"""kind = "sql": the site's own query. A database of another maker is one more module beside sqlite.py."""
