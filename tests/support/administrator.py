"""An administrator of a PostgreSQL node: looks at it and changes it beside the program under test."""

import asyncio
import contextlib

import psycopg

_COMMIT = "SELECT pg_logical_emit_message(true, 'test', '')"


class Administrator:
    """A second connection, of the superuser."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        cursor = self._connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._connection.close()

    async def until(self, query: str) -> None:
        """Waits until the query's first value is true."""
        async with asyncio.timeout(30):
            while not self.ask(query)[0][0]:  # noqa: ASYNC110  # the server sets no event of ours
                await asyncio.sleep(0.01)

    async def until_a_commit_waits_for_a_standby(self) -> None:
        await self.until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    async def end_waits(self, how: str, until: str) -> None:
        """Ends the waits of commits for a standby by a function of the server (they are in force then, on this node
        alone) until the query's first value is true."""
        await self.until_a_commit_waits_for_a_standby()
        async with asyncio.timeout(30):
            while not self.ask(until)[0][0]:
                self.ask(f"SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")  # noqa: S608  # a test's own text
                await asyncio.sleep(0.01)

    async def demand_a_standby(self) -> None:
        """Every commit waits for a standby that does not exist."""
        self.ask("SET synchronous_commit = off")
        self.ask("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
        await self._reload("ghost")
        # The setting is seen at once, and obeyed when the checkpointer has seen it: when a commit of ours waits.
        with psycopg.connect(self._dsn, autocommit=True) as trying:
            me = f"FROM pg_stat_activity WHERE pid = {trying.info.backend_pid}"
            commit = asyncio.create_task(asyncio.to_thread(trying.execute, _COMMIT))
            async with asyncio.timeout(30):
                while self.ask(f"SELECT wait_event {me}") != [("SyncRep",)]:
                    if commit.done():
                        commit = asyncio.create_task(asyncio.to_thread(trying.execute, _COMMIT))
                    await asyncio.sleep(0.005)
            self.ask(f"SELECT pg_terminate_backend(pid, 5000) {me}")
            with contextlib.suppress(psycopg.Error):
                await commit

    async def demand_nothing(self) -> None:
        """Commits wait for this node alone; those that wait for a standby are confirmed."""
        self.ask("ALTER SYSTEM RESET synchronous_standby_names")
        await self._reload("")

    async def _reload(self, names: str) -> None:
        self.ask("SELECT pg_reload_conf()")
        await self.until(f"SELECT current_setting('synchronous_standby_names') = '{names}'")
