"""SCRAM-SHA-256 as a next hop plays it, by scramp's server: a judge of our client that is not ours."""

from collections.abc import Awaitable, Callable, Mapping

import scramp  # type: ignore[import-untyped]  # it ships no types


async def prove(
    first: bytes, ask: Callable[[bytes], Awaitable[bytes]], users: Mapping[str, str], *, proves_itself: bool
) -> tuple[str, str]:
    """The exchange after the client's first message: its login, and the password when it was proven, else "".
    ``ask`` says a challenge and returns the response; ``proves_itself`` False keeps the server's signature back."""
    said: list[str] = []

    def keys(login: str) -> object:
        said.append(login)
        return scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(users[login])

    server = scramp.ScramMechanism("SCRAM-SHA-256").make_server(keys)
    server.set_client_first(first.decode())
    final = await ask(server.get_server_first().encode())
    try:
        server.set_client_final(final.decode())
    except scramp.ScramException:
        return said[0], ""
    if proves_itself:
        await ask(server.get_server_final().encode())
    return said[0], users[said[0]]
