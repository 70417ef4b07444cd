"""Idle sessions."""

import asyncio
import ssl

import pytest
from tests.bench.conftest import PASSWORD, USER, target
from tests.support.nexthop import NextHop

from pillarbox.bench.idle import hold
from pillarbox.bench.session import SessionFailed


async def nobody_left(hop: NextHop) -> None:
    """The server sees a closed connection a moment after the client closed it; nobody tells us when."""
    async with asyncio.timeout(20):
        while hop.open_now:  # noqa: ASYNC110  # see the docstring
            await asyncio.sleep(0)
    assert hop.open_now == 0


async def test_they_are_signed_in_held_and_let_go(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with NextHop(tls=server_tls, implicit_tls=True, users={USER: PASSWORD}) as hop:
        async with hold(target(hop.port, trust), 50) as sessions:
            assert len(sessions) == 50
            assert hop.open_now == 50
            assert len(hop.sign_ins) == 50
        await nobody_left(hop)


async def test_none_is_none() -> None:
    async with NextHop() as hop:
        async with hold(target(hop.port), 0) as sessions:
            assert sessions == []
        assert hop.connections == 0


async def test_one_that_cannot_be_opened_ends_them_all(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    greetings = [*["220 hello"] * 5, "421 4.3.2 too many"]
    async with NextHop(
        tls=server_tls, implicit_tls=True, users={USER: PASSWORD}, script={"CONNECT": greetings}
    ) as hop:
        with pytest.raises(SessionFailed, match=r"^421 4.3.2 too many"):
            async with hold(target(hop.port, trust), 20):
                raise AssertionError("held although one was refused")
        await nobody_left(hop)
