"""The guard's tables in the first cell: facts that every machine may read, each under a key of its own.

A fact is one row, numbered anew whenever it changes; a machine asks for what has a higher number than what it read
last. ``kind`` and what the other columns then hold:

    f   a distinct failure          place, login, id (nothing of the password is in it); amount 1
    p   a known place               place; amount 1
    b   a block                     place; amount: failures; expires_at: its end
    l   a block lifted by hand      place: its failures until ``at`` are forgotten as well
    g   a login forgotten by hand   login: its failures until ``at``
    c   a good sign-in              place, login: the failures of both until ``at`` are cleared
    q   recipients of one minute    login, id: node and minute; amount

Nothing here is added up by the database, so a row that is written twice changes nothing: a commit of unknown outcome
is simply repeated. Numbers are drawn under an advisory lock that is held until the commit is confirmed, hence they
become visible in their order and a reader never skips one.

Places and logins are octets: a login that a peer invents may hold U+0000, which text cannot.

ERRORS
    None: values only.
"""

ROOM = "guard"
"""The name under which store.migrations counts."""

MIGRATIONS = (
    (
        "CREATE SEQUENCE guard_number AS int8",
        """
        CREATE TABLE guard_node (
            node bytea PRIMARY KEY,       -- a data directory
            holder bytea NOT NULL,        -- the process that has it
            seen_at timestamptz NOT NULL
        ) WITH (fillfactor = 50)
        """,
        """
        CREATE TABLE guard_fact (
            kind text COLLATE "C" NOT NULL,
            place bytea NOT NULL,
            login bytea NOT NULL,
            id bytea NOT NULL,
            node bytea NOT NULL,          -- whose word it is
            at timestamptz NOT NULL,      -- by this server's clock, like all times here
            expires_at timestamptz NOT NULL,
            amount int8 NOT NULL,
            number int8 NOT NULL DEFAULT nextval('guard_number'),
            PRIMARY KEY (kind, place, login, id)
        ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000)
        """,
        "CREATE UNIQUE INDEX guard_fact_number ON guard_fact (number)",
        "CREATE INDEX guard_fact_expires ON guard_fact (expires_at)",
    ),
)

GRANTS: dict[str, tuple[str, ...]] = {
    "submission": (),
    "delivery": (),
    "keeper": (
        "SELECT, INSERT, UPDATE, DELETE ON guard_node, guard_fact",
        "SELECT, USAGE ON SEQUENCE guard_number",
    ),
}
"""What each database role may do with them: the tails of GRANT statements."""
