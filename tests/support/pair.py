"""Two ends of one SMTP connection, wired together without a network.

    pair = ConnectionPair(mechanisms=("PLAIN",))
    pair.greet()
    assert pair.ask(Hello("client.example", esmtp=True)) == Hello("client.example", esmtp=True)
    pair.answer(pair.server.hello_reply("mx.example"))

Each step checks both ends: what one says is what the other hears, and nothing else is left to hear.
"""

from collections.abc import Iterable

from pillarbox.smtp.connection import NEED_DATA, PAUSED, Connection, Limits, Role, Signal
from pillarbox.smtp.events import Challenge, Command, Content, Data, EndOfContent, Event, Hello, Mail, Quit, Rcpt
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply

OK = Reply(250, ("OK",), "2.0.0")
GREETING = Reply(220, ("mx.example ESMTP",))
GO_ON = Reply(354, ("Go on",))


class ConnectionPair:
    """A client and a server role; octets go from one straight to the other."""

    def __init__(
        self,
        *,
        tls: bool = False,
        authenticated: bool = False,
        mechanisms: Iterable[str] = ("PLAIN", "LOGIN"),
        limits: Limits | None = None,
        offer_starttls: bool = True,
    ) -> None:
        self.client = Connection(Role.CLIENT, tls=tls)
        self.server = Connection(
            Role.SERVER,
            limits=limits if limits is not None else Limits(),
            tls=tls,
            authenticated=authenticated,
            mechanisms=mechanisms,
            offer_starttls=offer_starttls,
        )

    def greet(self, reply: Reply = GREETING) -> None:
        """The server's greeting."""
        assert self.server.next_event() is PAUSED
        assert self.answer(reply) == reply

    def ask(self, command: Command) -> Event:
        """The client says a command; returns what the server hears. The server is then paused."""
        self.server.receive_data(self.client.send(command))
        assert self.client.next_event() is NEED_DATA
        event = self.server.next_event()
        assert not isinstance(event, Signal)
        assert self.server.next_event() is PAUSED
        return event

    def answer(self, reply: Reply | Challenge) -> Event:
        """The server answers; returns what the client hears."""
        self.client.receive_data(self.server.send(reply))
        event = self.client.next_event()
        assert not isinstance(event, Signal)
        assert self.client.next_event() is NEED_DATA
        return event

    def exchange(self, command: Command, reply: Reply) -> None:
        """One command and its reply, heard as they were said."""
        assert self.ask(command) == command
        assert self.answer(reply) == reply

    def hello(self) -> None:
        """EHLO and the server's own reply to it."""
        hello = Hello("client.example", esmtp=True)
        assert self.ask(hello) == hello
        reply = self.server.hello_reply("mx.example")
        assert self.answer(reply) == reply

    def carry(self, chunks: Iterable[bytes]) -> tuple[bytes, EndOfContent]:
        """One transaction with the chunks as content; returns what the server heard of it."""
        self.exchange(Mail(Mailbox("a", "example.org")), OK)
        self.exchange(Rcpt(Mailbox("b", "example.com")), OK)
        heard = b""
        self.exchange(Data(), GO_ON)
        for chunk in chunks:
            octets = self.client.send(Content(chunk))
            if not octets:
                continue
            self.server.receive_data(octets)
            while isinstance(event := self.server.next_event(), Content):
                heard += event.octets
            assert event is NEED_DATA
        self.server.receive_data(self.client.send(EndOfContent(0, frozenset(), eight_bit=False)))
        while isinstance(event := self.server.next_event(), Content):
            heard += event.octets
        assert isinstance(event, EndOfContent)
        assert self.answer(OK) == OK
        return heard, event

    def quit(self) -> None:
        """QUIT and its reply; the server then knows only the end."""
        self.exchange(Quit(), Reply(221, ("Bye",), "2.0.0"))
