"""Rules of [spool] with kind = "cluster": it has cells, each with its own name and database,
and no password stands in the file.

The file is read by many and kept in many places; a DSN with a password in it is refused whole, and never shown.

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator

from pillarbox.config.dsn import mistake_in
from pillarbox.config.lines import Path as KeyPath
from pillarbox.config.model import FileTable, SpoolTable

Broken = Iterator[tuple[KeyPath, str]]


def check_cluster(tables: FileTable) -> Broken:
    """Every rule of the spool's kind that is broken."""
    spool = tables.spool
    if spool.kind == "embedded":
        yield from _embedded(spool)
        return
    if "min_free" in spool.model_fields_set:
        yield (
            ("spool", "min_free"),
            'found beside kind = "cluster"; expected none: it is for the disk of the embedded spool',
        )
    if not spool.cell:
        yield (
            ("spool", "kind"),
            'found "cluster" without a cell; expected [[spool.cell]] with name = "a" and '
            'dsn = "host=pg1,pg2,pg3 dbname=pillarbox user=pillarbox"',
        )
    if spool.cell and not any(cell.accepts for cell in spool.cell):
        yield ("spool", "cell", 0, "accepts"), "found false in every cell; expected one cell that takes new mail"
    names: set[str] = set()
    dsns: set[str] = set()
    for number, cell in enumerate(spool.cell):
        if cell.name in names:
            yield (
                ("spool", "cell", number, "name"),
                f'found "{cell.name}" twice; expected a name for each cell: it is the end of its queue ids',
            )
        if cell.dsn in dsns:
            yield (
                ("spool", "cell", number, "dsn"),
                "found the database of another cell; expected one of its own for each: one cell under two names",
            )
        names.add(cell.name)
        dsns.add(cell.dsn)
        mistake = mistake_in(cell.dsn)
        if mistake:
            yield ("spool", "cell", number, "dsn"), mistake


def _embedded(spool: SpoolTable) -> Broken:
    for key in ("durability", "cell"):
        if key in spool.model_fields_set:
            yield (
                ("spool", key),
                'found without kind = "cluster"; expected kind = "cluster" in [spool], or none of it',
            )
