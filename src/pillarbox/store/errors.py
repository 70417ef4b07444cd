"""What can go wrong with a database, whichever it is: the rooms above know these and no driver's.

ERRORS
    All are StoreError; ``str()`` names the file or the server and says why. Transient ones may go away by
    themselves: Undone and Unreachable say that nothing happened, Unknown that nobody can say what did.
"""


class StoreError(Exception):
    """Base: the database could not be used."""


class SchemaTooNew(StoreError):
    """Written by a newer Pillarbox."""


class SchemaTooOld(StoreError):
    """Not there yet, or made by an older Pillarbox: it must be brought up first."""


class TooOld(StoreError):
    """The database's own version is too old."""


class DiskFull(StoreError):
    """No room left."""


class Conflict(StoreError):
    """A constraint of the schema was not met."""


class Denied(StoreError):
    """The database user lacks a right."""


class Closed(StoreError):
    """The store was closed."""


class Transient(StoreError):
    """Not the statement's fault; the same may work when it is repeated."""


class Unreachable(Transient):
    """No connection to a server that takes writes. Nothing happened."""


class Undone(Transient):
    """The transaction was given up before its commit was asked for. Nothing happened."""


class Unknown(Transient):
    """A commit was asked for, and it is not known whether it is, or stays, in force."""
