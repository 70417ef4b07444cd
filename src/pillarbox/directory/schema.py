"""The tables of the local accounts in a cell, the first one; accounts.py has those of a machine's own file.

One row of ``directory`` numbers the changes: each transaction that changes an account takes its numbers there first,
so that writers go one after the other and whoever sees a number sees all that are lower. A change is the row of an
account, or of a removed one, with its number as ``generation``. ``id`` names this set of accounts: with another one
every machine takes all of them anew. Passwords are hashed before they come here.
"""

ROOM = "directory"
"""Under which the migrations are numbered."""

MIGRATIONS = (
    (
        """
        CREATE TABLE directory (
            one bool PRIMARY KEY DEFAULT true CHECK (one),
            id text COLLATE "C" NOT NULL,
            generation int8 NOT NULL,  -- the last one given out
            scram_key bytea NOT NULL   -- of the secrets of names that nobody has
        )
        """,
        """
        INSERT INTO directory (id, generation, scram_key)
        VALUES (gen_random_uuid()::text, 0, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        """,
        """
        CREATE TABLE account (
            key text COLLATE "C" PRIMARY KEY,  -- the login as logins compare
            login text COLLATE "C" NOT NULL,
            addresses text[] NOT NULL,
            domains text[] NOT NULL,
            may_redirect bool NOT NULL,
            recipients_per_hour int8,
            disabled bool NOT NULL,
            generation int8 NOT NULL UNIQUE,
            created_at float8 NOT NULL,
            password_changed_at float8 NOT NULL,
            password_hash text NOT NULL,
            scram text
        )
        """,
        """
        CREATE TABLE account_removed (
            key text COLLATE "C" PRIMARY KEY,
            login text COLLATE "C" NOT NULL,
            generation int8 NOT NULL UNIQUE
        )
        """,
        """
        CREATE TABLE account_certificate (
            mark text COLLATE "C" PRIMARY KEY,
            key text COLLATE "C" NOT NULL REFERENCES account ON DELETE CASCADE
        )
        """,
        "CREATE INDEX account_certificate_key ON account_certificate (key)",
    ),
)
"""See store.migrations."""

GRANTS: dict[str, tuple[str, ...]] = {
    "keeper": (
        "SELECT, UPDATE ON directory",
        "SELECT, INSERT, UPDATE, DELETE ON account, account_removed, account_certificate",
    ),
    "delivery": (),
    "submission": (),
}
"""What each role may do here, as GRANT takes it, without the role."""
