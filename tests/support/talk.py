"""A conversation with a server, line by line, over a real socket: for what stock clients would not say.

with Talk(port) as talk:
    assert talk.greeting.startswith("220 ")
    talk.start_tls(ca)
    talk.sign_in("ada", "secret")
    assert talk.say("MAIL FROM:<ada@example.org>").startswith("250")
"""

import base64
import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 20


class Talk:
    """One connection to ``port``; with ``ca`` it speaks TLS from the start. Lines are without their CRLF. ``name`` is
    asked for in the handshake, and the certificate must be for it; "" asks for none and takes any."""

    def __init__(
        self,
        port: int,
        ca: Path | None = None,
        *,
        host: str = "127.0.0.1",
        source: str = "",
        greeting: bool = True,
        name: str = "localhost",
    ) -> None:
        address = (source, 0) if source else None
        self._name = name
        self._socket: socket.socket = socket.create_connection((host, port), SECONDS, address)
        self._unread = b""
        if ca is not None:
            self._wrap(ca)
        self.greeting = self.reply() if greeting else ""

    def say(self, line: str | bytes) -> str:
        """Sends a command (CRLF is added) and returns the whole reply, its lines joined by a line feed."""
        octets = line.encode() if isinstance(line, str) else line
        self.send(octets + b"\r\n")
        return self.reply()

    def send(self, octets: bytes) -> None:
        """Sends octets as they are."""
        self._socket.sendall(octets)

    def reply(self) -> str:
        """The next reply. Raises ConnectionError when the server closed instead."""
        lines = []
        while True:
            line = self._line().decode()
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def at_end(self) -> bool:
        """Whether the server has closed, nothing more being said."""
        if self._unread:
            return False
        try:
            return self._socket.recv(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True

    def start_tls(self, ca: Path) -> None:
        """EHLO, STARTTLS, handshake, EHLO."""
        assert self.say("EHLO client.example.org").startswith("250")
        answer = self.say("STARTTLS")
        assert answer.startswith("220"), answer
        self._wrap(ca)
        assert self.say("EHLO client.example.org").startswith("250")

    def sign_in(self, user: str, password: str) -> str:
        """AUTH PLAIN with an initial response; returns the reply."""
        response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        return self.say(f"AUTH PLAIN {response}")

    def transaction(self, content: bytes, reverse_path: str = "ada@example.org", *forward_paths: str) -> str:
        """MAIL, RCPT, DATA and content (dots are stuffed); returns the last reply, or the first bad one."""
        for command in (
            f"MAIL FROM:<{reverse_path}>",
            *(f"RCPT TO:<{path}>" for path in forward_paths or ("bob@elsewhere.example",)),
            "DATA",
        ):
            answer = self.say(command)
            if answer[:1] not in "23":
                return answer
        self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _wrap(self, ca: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.check_hostname = bool(self._name)
        self._socket = context.wrap_socket(self._socket, server_hostname=self._name or None)

    def _line(self) -> bytes:
        while b"\r\n" not in self._unread:
            more = self._socket.recv(4096)
            if not more:
                raise ConnectionError(f"closed after {self._unread!r}")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line
