"""The cell's tables. docs/explanation/durability.md says what they promise.

A message is one row, under its queue id; its content is in the same row, out of line and not compressed, or in
chunks when it is large. A recipient is a row of its own. Its state:

    due    waits, and its time has come (or had, by the clock of the machine that wrote it)
    later  waits for ``due_at``; becomes ``due`` when somebody finds that its time has come
    held, dead, gone as in the embedded spool

Only ``due`` rows are in the index that leases read, so what waits for another try costs a lease nothing, however much
it is. ``leased_by`` and ``lease`` are in no index: lending changes a row in its place.

A message whose recipients are all done loses its recipient rows at once; its own row stays for a while (removal.py),
so that a commit that is repeated finds it. Whatever reads messages looks for recipients first.

Whoever commits may read no content: not in the tables, and not by having it sent somewhere. So recipients come with
their message, in one transaction, or not at all; and a content that is in chunks is known to who wrote it alone: its
number is one of 2^63, and functions of the owner's say whether it is whole, and forget what belongs to no message.
"""

ROOM = "spool"
"""The name under which the migrations are counted."""

_RETIRE = (
    "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 1"
)
"""Rows leave as fast as they come: they are cleaned away in small steps, often."""

MIGRATIONS = (
    (
        f"""
        CREATE TABLE message (
            queue_id text COLLATE "C" PRIMARY KEY,
            reverse_path text COLLATE "C" NOT NULL,
            received_at float8 NOT NULL,
            size int8 NOT NULL,
            eight_bit bool NOT NULL,
            smtputf8 bool NOT NULL,
            login text COLLATE "C" NOT NULL,
            site text COLLATE "C" NOT NULL,
            session_id text COLLATE "C" NOT NULL,
            is_bounce bool NOT NULL,
            "binary" bool NOT NULL,
            ret text COLLATE "C" NOT NULL,
            envid text COLLATE "C" NOT NULL,
            hold_until float8 NOT NULL,
            deliver_by float8 NOT NULL,
            deliver_by_mode text COLLATE "C" NOT NULL,
            priority int2 NOT NULL,
            require_tls bool NOT NULL,
            tls_optional bool NOT NULL,
            digest bytea NOT NULL,   -- of the whole envelope: whether a repeated commit means this message
            weight int4 NOT NULL,    -- octets that a lease of it brings, about
            content bytea,           -- NULL: it is in content_chunk
            content_id int8,
            chunks int4 NOT NULL
        ) WITH ({_RETIRE}, toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 5000)
        """,
        "ALTER TABLE message ALTER content SET STORAGE EXTERNAL",
        "CREATE INDEX message_hold ON message (hold_until) WHERE hold_until > 0",
        "CREATE INDEX message_content ON message (content_id) WHERE content_id IS NOT NULL",
        f"""
        CREATE TABLE recipient (
            queue_id text COLLATE "C" NOT NULL,
            key int4 NOT NULL,
            forward_path text COLLATE "C" NOT NULL,
            domain text COLLATE "C" NOT NULL,
            priority int2 NOT NULL,  -- its message's, for the index
            state text COLLATE "C" NOT NULL CHECK (state IN ('due', 'later', 'held', 'dead', 'gone')),
            due_at float8 NOT NULL,
            attempts int4 NOT NULL DEFAULT 0,
            last_reply text COLLATE "C" NOT NULL DEFAULT '',
            last_attempt_at float8,
            delay_warned bool NOT NULL DEFAULT false,
            notify text COLLATE "C" NOT NULL,
            original_recipient text COLLATE "C" NOT NULL,
            leased_by int8,          -- a worker
            lease int8,              -- the number of that worker's taking
            PRIMARY KEY (queue_id, key)
        ) WITH (fillfactor = 70, {_RETIRE})
        """,
        "CREATE INDEX recipient_due ON recipient (domain, priority, due_at) WHERE state = 'due'",
        "CREATE INDEX recipient_later ON recipient (due_at) WHERE state = 'later'",
        "CREATE INDEX recipient_held ON recipient (queue_id) WHERE state = 'held'",
        "CREATE INDEX recipient_dead ON recipient (queue_id) WHERE state = 'dead'",
        """
        CREATE TABLE content_chunk (
            content_id int8 NOT NULL,
            seq int4 NOT NULL,
            length int4 NOT NULL,
            written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            octets bytea NOT NULL,
            PRIMARY KEY (content_id, seq)
        )
        """,
        "ALTER TABLE content_chunk ALTER octets SET STORAGE EXTERNAL",
        """
        CREATE TABLE worker (
            id int8 PRIMARY KEY,
            name text NOT NULL,
            seen timestamptz NOT NULL  -- by the server's clock
        )
        """,
    ),
    (
        """
        CREATE FUNCTION content_is_whole(int8, int4, int8) RETURNS bool STABLE SECURITY DEFINER
        RETURN EXISTS (
            SELECT FROM content_chunk c WHERE c.content_id = $1 HAVING count(*) = $2 AND sum(c.length) = $3
        )
        """,
        """
        CREATE FUNCTION forget_content(int8) RETURNS void SECURITY DEFINER
        BEGIN ATOMIC
            DELETE FROM content_chunk c
            WHERE c.content_id = $1 AND NOT EXISTS (SELECT FROM message m WHERE m.content_id = c.content_id);
        END
        """,
        """
        CREATE FUNCTION refuse_later_recipients() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pillarbox, pg_temp AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM added a WHERE (
                    SELECT m.xmin = pg_current_xact_id()::xid FROM message m WHERE m.queue_id = a.queue_id
                ) IS NOT true
            ) THEN
                RAISE insufficient_privilege USING MESSAGE = 'recipients come with their message';
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER recipient_added AFTER INSERT ON recipient REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_later_recipients()
        """,
        """
        REVOKE ALL ON FUNCTION content_is_whole(int8, int4, int8), forget_content(int8), refuse_later_recipients()
        FROM PUBLIC
        """,
    ),
    (
        # Its plan is made once in a session, mostly over an empty table, where reading all of it looks cheap.
        "ALTER FUNCTION refuse_later_recipients() SET enable_seqscan = off",
    ),
    (
        # What was brought back: a repeat is void, also when it was delivered meanwhile. The owner's alone.
        """
        CREATE TABLE restored (
            queue_id text COLLATE "C" PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT now()
        )
        """,
    ),
    (
        "CREATE TABLE identity (token text NOT NULL)",  # one row: which spool this is
        "INSERT INTO identity VALUES (replace(gen_random_uuid()::text, '-', ''))",
        # What is on its way to another spool: here its recipients are gone. The owner's alone.
        """
        CREATE TABLE taken (
            queue_id text COLLATE "C" PRIMARY KEY,
            destination text NOT NULL,  -- that spool's identity
            states text NOT NULL,       -- JSON: by key, the states of the recipients that wait
            at timestamptz NOT NULL
        )
        """,
    ),
    (
        # Content leaves from the message's TOAST table, which has its own pace: at PostgreSQL's usual one it grew
        # without end at 4,000 messages of 2 KiB a second.
        "ALTER TABLE message SET (toast.autovacuum_vacuum_cost_delay = 0)",
        "ALTER TABLE content_chunk SET (toast.autovacuum_vacuum_cost_delay = 0)",
    ),
)

_TO_COMMIT = "EXECUTE ON FUNCTION content_is_whole(int8, int4, int8)"
_TO_REMOVE = "DELETE ON message, recipient, content_chunk"
_TO_LOCK = "UPDATE (weight) ON message"  # FOR UPDATE wants the right to change something

GRANTS: dict[str, tuple[str, ...]] = {
    "submission": (
        "INSERT ON message, recipient, content_chunk",
        "SELECT (queue_id, digest) ON message",  # RETURNING; whether a commit is a repeated one
        _TO_COMMIT,
        "EXECUTE ON FUNCTION forget_content(int8)",
    ),
    "delivery": (
        "SELECT ON message, recipient, content_chunk",
        "INSERT ON message, recipient",  # bounces
        "UPDATE (state, due_at, attempts, last_reply, last_attempt_at, delay_warned, leased_by, lease) ON recipient",
        "SELECT, INSERT, UPDATE, DELETE ON worker",
        _TO_COMMIT,
        _TO_REMOVE,
        _TO_LOCK,
    ),
    "keeper": (
        "SELECT ON message, recipient, content_chunk, worker",
        "INSERT ON message, recipient, content_chunk",
        "UPDATE (state, due_at) ON recipient",
        _TO_COMMIT,
        "EXECUTE ON FUNCTION forget_content(int8)",
        _TO_REMOVE,
        _TO_LOCK,
    ),
}
"""What each role may do here, as GRANT takes it, without the role (store.rights)."""

_READING_ALL = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
BY_INDEX: tuple[str, tuple[()]] = (
    "SELECT " + ", ".join(f"set_config('{way}', 'off', true)" for way in _READING_ALL),
    (),
)
"""A statement before those that name the rows they want: until the transaction ends, plans look them up one by one. A
plan is made once in a session, mostly over tables that are nearly empty, where reading all of one looks cheap; and it
is kept while a next hop is away and the queue grows."""

VOID_AFTER = 30
"""Seconds after which a worker that was not heard of has lost its leases."""

ALIVE = f"ARRAY(SELECT w.id FROM worker w WHERE w.seen > now() - interval '{VOID_AFTER} seconds')"  # noqa: S608  # a constant
TURN = "SELECT pg_advisory_xact_lock(hashtext('pillarbox lease'))"
"""Who lends waits for this: one after the other, for the length of a transaction."""
UNLENT = "SELECT pg_advisory_xact_lock_shared(hashtext('pillarbox lease'))"
"""Until the transaction ends nothing is lent. It comes before what changes rows that are FREE: a statement sees a row
as it is when its lock is had, but workers as they were when it began, and one that is new would be nobody."""
FIRST_ALIVE = f"SELECT w.id FROM worker w WHERE w.seen > now() - interval '{VOID_AFTER} seconds' ORDER BY 1 LIMIT 1"  # noqa: S608  # as above
FREE = f"(r.leased_by IS NULL OR r.leased_by <> ALL ({ALIVE}))"
"""SQL: nobody who is alive holds the recipient ``r``."""
