"""The submission role of one worker: listeners on inherited sockets, their sessions, reload and drain.

    submission = Submission(services)
    submission.apply(make_plans(sites, directories))
    await submission.listen(address, sock)
    ...
    await submission.drain(30.0)

The guard admits the peer before a word is said or a handshake begun; behind a load balancer the peer is the client
that its PROXY header names. A legacy site has a refusal for whoever is not in its networks, and no session; a load
balancer that looks whether it is there (a listed peer that speaks for itself) has one in which nobody signs in. A
reload gives new sessions the new plans; sessions that are open keep what they began with.

ERRORS
    KeyError from listen for an address that no plan serves: a bug of the composition root.
"""

import asyncio
import socket
from collections.abc import Mapping

from pillarbox.net import stream as net
from pillarbox.net.preface import Proxies
from pillarbox.net.stream import SmtpStream
from pillarbox.net.transport import Listening
from pillarbox.smtp.connection import Connection, Role
from pillarbox.smtp.reply import Reply
from pillarbox.submission import porch, replies
from pillarbox.submission.admission import Admission
from pillarbox.submission.session import Session
from pillarbox.submission.settings import Address, in_networks
from pillarbox.submission.site import Plan, Services
from pillarbox.telemetry.counters import counter, gauge
from pillarbox.telemetry.events import get_logger

log = get_logger("submission")

OPEN = gauge("sessions_open", "Sessions open now")
TURNED_AWAY = counter("connections_refused_total", "Connections refused before a session", labels=("reason",))


class Submission:
    """See the module's text. One object a worker, on one loop. ``ceiling``: sessions that the process can have open
    at most, whatever its sites allow; None: any number."""

    def __init__(self, services: Services, *, ceiling: int | None = None) -> None:
        self._services = services
        waiting = porch.MOST if ceiling is None else min(porch.MOST, ceiling // 4)
        self._admission = Admission[Session](None if ceiling is None else ceiling - waiting, self._cut)
        guard = services.guard
        self.porch = porch.Porch(
            self._admission.strangers_turns, lambda peer: guard.known(peer, services.now()), waiting
        )
        self._plans: Mapping[Address, Plan] = {}
        self._listeners: dict[Address, _Listener] = {}
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._generations: dict[str, int] = {}
        self._draining = False

    def apply(self, plans: Mapping[Address, Plan]) -> None:
        """What new sessions get from now on; also re-read certificates come in this way."""
        self._plans = plans

    async def listen(self, address: Address, sock: socket.socket) -> None:
        """Serves ``address`` on a bound socket, which stays the caller's (a duplicate is used)."""
        listener = _Listener(self, address, sock)
        self._listeners[address] = listener
        await listener.start(self._plans[address])

    async def refresh(self) -> None:
        """After apply: listeners whose kind changed (one certificate or several, load balancers or none) accept
        anew."""
        for address, listener in self._listeners.items():
            plan = self._plans[address]
            if (listener.switches, listener.proxied) != (plan.switches, plan.proxied):
                await listener.stop()
                await listener.start(self._plans[address])

    def account_changed(self, login: str, generation: int) -> None:
        """Sessions of an older generation of this account end at their next command."""
        key = login.casefold()
        self._generations[key] = generation
        for session in self._sessions:
            self._check_generation(session, key)

    def _check_generation(self, session: Session, key: str) -> None:
        identity = session.identity
        if identity is not None and identity.account.casefold() == key:
            session.account_changed = identity.generation < self._generations[key]

    def sessions(self) -> list[dict[str, object]]:
        """The open sessions for the operator: plain data."""
        return [session.describe() for session in self._sessions]

    async def drain(self, seconds: float) -> None:
        """Stops accepting, ends idle sessions, waits for transactions in hand; cuts what is left after that."""
        self._draining = True
        for listener in self._listeners.values():
            await listener.stop()
        self._admission.end_turns()
        for session, task in list(self._sessions.items()):
            session.drain()
            if session.shaking_hands:  # nothing can be said to it, and it may take its time
                session.cut(task)
        tasks = list(self._sessions.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- called for each connection

    def connection(self, address: Address) -> Connection:
        """The protocol state of a new connection at this address."""
        plan = self._plans[address]
        site = plan.default
        return Connection(
            Role.SERVER,
            limits=site.limits,
            tls=plan.implicit_tls,
            offer_starttls=not plan.implicit_tls,
            mechanisms=site.settings.mechanisms_of(implicit_tls=plan.implicit_tls),
        )

    def accept(self, address: Address, stream: SmtpStream) -> None:
        """Admits the peer and starts its session, or turns it away."""
        plan = self._plans[address]
        peer = stream.peer[0]
        if self._draining:
            return self._turn_away(stream, plan, replies.SHUTTING_DOWN, "draining")
        guard, settings, now = self._services.guard, plan.default.settings, self._services.now()
        # Behind a load balancer that names nobody may be anybody: that is no place of a legacy site's, wherever the
        # balancer itself stands. It looks whether we are there, and is let look.
        nameless = stream.origin is not None and not stream.origin.named
        if settings.legacy is not None and not nameless and not in_networks(peer, settings.legacy.networks):
            return self._turn_away(stream, plan, replies.NOT_FROM_THERE, "not in the site's networks")
        if guard.admit(peer, now) is not None:
            return self._turn_away(stream, plan, replies.BLOCKED, "blocked")
        known = guard.known(peer, now)
        if not self._admission.enter(peer, settings, known=known):
            return self._turn_away(stream, plan, replies.TOO_MANY_SESSIONS, "too many sessions")
        stream.read_ahead = net.READ_AHEAD_BEFORE_SIGN_IN
        # a reload may have come between the connection's being made and this: one plan decides all
        stream.connection.serve_as(
            plan.default.limits, plan.default.settings.mechanisms_of(implicit_tls=plan.implicit_tls)
        )
        only_looks = settings.legacy is not None and nameless
        session = Session(stream, plan, self._services, self._admission, self._signed_in, only_looks=only_looks)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[session] = task
        if not known:
            self._admission.wait(session, peer, settings)
        OPEN.set(len(self._sessions))
        task.add_done_callback(lambda _: self._ended(session, peer))
        return None

    def listed(self, address: Address, peer: str) -> bool:
        """Whether a peer of this address must begin with a PROXY header."""
        return in_networks(peer, self._plans[address].default.settings.proxy_from)

    def headless(self, address: Address, peer: str, reason: str) -> None:
        """A listed peer did not begin with one and was closed."""
        TURNED_AWAY.add(1, "no PROXY header")
        log.warning("proxy.refused", peer=peer, listener=self._plans[address].listener, reason=reason)

    def _signed_in(self, session: Session) -> None:
        self._admission.signed_in(session)
        # The account may have changed between the directory's look-up and this moment.
        if session.identity is not None and (key := session.identity.account.casefold()) in self._generations:
            self._check_generation(session, key)

    def _ended(self, session: Session, peer: str) -> None:
        del self._sessions[session]
        self._admission.leave(session, peer)
        OPEN.set(len(self._sessions))

    def _cut(self, session: Session) -> None:
        """Ends a stranger's session for another's sake; not in the middle of the other's connection being made."""
        TURNED_AWAY.add(1, "made room")
        asyncio.get_running_loop().call_soon(session.cut, self._sessions[session])

    def _turn_away(self, stream: SmtpStream, plan: Plan, reply: Reply, reason: str) -> None:
        TURNED_AWAY.add(1, reason)
        if stream.origin is None or stream.origin.named:  # a load balancer's look is no news
            log.info("connection.refused", peer=stream.peer[0], listener=plan.listener, reason=reason)
        if not plan.implicit_tls:  # inside TLS it would cost a handshake to say it
            stream.send(reply)
        stream.hang_up()


class _Listener:
    """One address: the socket that stays, and the server that accepts on a duplicate of it."""

    def __init__(self, submission: Submission, address: Address, sock: socket.socket) -> None:
        self._submission = submission
        self._address = address
        self._sock = sock
        self._server: Listening | None = None
        self.switches = False
        self.proxied = False

    async def start(self, plan: Plan) -> None:
        submission, address = self._submission, self._address
        self.switches, self.proxied = plan.switches, plan.proxied
        proxies = Proxies(
            lambda peer: submission.listed(address, peer),
            lambda peer, reason: submission.headless(address, peer, reason),
        )
        self._server = await net.listen(
            self._sock.dup(),
            lambda: submission.connection(address),
            lambda stream: submission.accept(address, stream),
            hold=plan.implicit_tls,
            switches=plan.switches,
            proxies=proxies if plan.proxied else None,
            porch=submission.porch.come,
        )

    async def stop(self) -> None:
        """Stops accepting; what waits in the socket's backlog stays there for the next one who accepts."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
