"""A cell as an administrator sets it up: an ordinary owner of its database, and a user for each role."""

import secrets

import psycopg
from psycopg import sql
from tests.support.postgres import Postgres

from pillarbox.console.tables import make
from pillarbox.console.way import open_owners
from pillarbox.spool.settings import CellSettings


def create_owned(node: Postgres, name: str | None = None) -> CellSettings:
    """An empty database whose owner may make users and is no superuser; over the socket nobody needs a password.
    ``name``: of the database, and what users' names begin with."""
    name = name or f"pb{secrets.token_hex(4)}"
    with psycopg.connect(node.dsn("postgres"), autocommit=True) as connection:
        owner = sql.Identifier(f"{name}_owner")
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(owner))
        query = "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0"
        connection.execute(sql.SQL(query).format(sql.Identifier(name), owner))
    return CellSettings("a", node.dsn(name, user=f"{name}_{{role}}"))


async def make_owned(node: Postgres, name: str | None = None) -> CellSettings:
    """The same with all tables and users, made by its owner."""
    cell = create_owned(node, name)
    store = open_owners(cell, None, None, name="init")
    try:
        await make(store, cell, first=True)
    finally:
        await store.close()
    return cell
