"""The tables of the local accounts in a cell, the first one; accounts.py has those of a machine's own file.

One row of ``directory`` numbers the changes: each transaction that changes an account takes its numbers there first,
so that writers go one after the other and whoever sees a number sees all that are lower. A change is the row of an
account, or of a removed one, with its number as ``generation``. ``directory_history`` has a random mark for each
number: a copy whose own number has another mark here, or none, is no copy of what is here (an older state was brought
back, or another set of accounts) and is taken anew. ``id``: for programs of before that.
Passwords are hashed before they come here.
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
    (
        """
        CREATE TABLE directory_history (
            generation int8 PRIMARY KEY,
            mark text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text
        )
        """,
        "LOCK TABLE directory IN EXCLUSIVE MODE",  # nobody takes numbers until they are all marked
        """
        INSERT INTO directory_history (generation)
        SELECT generation FROM directory
        UNION SELECT generation FROM account
        UNION SELECT generation FROM account_removed
        """,
        # for programs of before as well; a number that is given out again, by whatever mistake, is another one
        """
        CREATE FUNCTION mark_generations() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pillarbox, pg_temp AS $$
        BEGIN
            INSERT INTO directory_history (generation)
            SELECT generate_series(OLD.generation + 1, NEW.generation)
            ON CONFLICT (generation) DO UPDATE SET mark = EXCLUDED.mark;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER generations_taken AFTER UPDATE OF generation ON directory
        FOR EACH ROW EXECUTE FUNCTION mark_generations()
        """,
    ),
    ("ALTER TABLE account ADD app_passwords text NOT NULL DEFAULT '[]'",),  # JSON, as in a machine's own file
    ("ALTER TABLE account ADD aliases text NOT NULL DEFAULT '[]'",),  # as above; who has one is asked of the copies
)
"""See store.migrations."""

GRANTS: dict[str, tuple[str, ...]] = {
    "keeper": (
        "SELECT, UPDATE ON directory",
        "SELECT ON directory_history",
        "SELECT, INSERT, UPDATE, DELETE ON account, account_removed, account_certificate",
    ),
    "delivery": (),
    "submission": (),
}
"""What each role may do here, as GRANT takes it, without the role."""
