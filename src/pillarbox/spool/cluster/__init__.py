"""The spool over PostgreSQL: one cell, that is one database whose commits a quorum of machines confirms.

There is: commit, lease, settle and an operator's verbs over one cell, with the promises of spool.base. [spool]
kind = "cluster" asks for it: daemon/spools.py chooses, daemon/cells.py waits for a cell and judges it.

    spool.py      ClusterSpool, open_cluster, make_tables: all of it as one base.Spool
    cell.py       the connection to the cell and what is known of its health
    batches.py    group commit: what waits shares one transaction
    intake.py     commit; upload.py large contents, in chunks
    outbox.py     lease, settle; taking.py and settling.py their SQL; workers.py who is alive
    ledger.py     the operator's verbs; verbs.py their SQL
    removal.py    what is finished leaves the tables
    schema.py     the tables; rows.py envelopes and recipients as rows
"""
