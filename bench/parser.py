"""What the protocol core alone does on one core: no sockets, no TLS, no event loop.

    python bench/parser.py [--seconds 0.3] [--rounds 7]

| row | |
|---|---|
| commands | MAIL, RCPT, RCPT, RSET pipelined in packets of 100: events read and replies written, commands a second |
| DATA, base64 | lines of 76 octets; as in all rows end, dots, bare CR, bare LF, NUL and long lines are looked for |
| DATA, text | lines of 72 octets above 127 with a dot at their end, every hundredth begins with a stuffed dot |
| DATA, dots | lines of one octet behind a stuffed dot: the worst case |
| BDAT | chunks of 1 MiB with the same content as base64, once CHUNKING is offered |

Packets are 64 KiB, as the transport reads them. Prints the median over the rounds, and the lowest and the highest.
"""

import argparse
import base64
import statistics
import time
from collections.abc import Callable

from pillarbox.smtp.connection import NEED_DATA, Connection, Limits, RemoteProtocolError, Role
from pillarbox.smtp.events import Chunk, Content, EndOfContent
from pillarbox.smtp.reply import Reply

PACKET = 65_536
CONTENT = 8 << 20
MEGABYTE = 1_000_000
OK = Reply(250, ("ok",), "2.0.0")
GO = Reply(354, ("go",))
LIMITS = Limits(content=0)


def server() -> Connection:
    """A session that is signed in and greeted."""
    connection = Connection(Role.SERVER, limits=LIMITS, tls=True, authenticated=True)
    connection.send(Reply(220, ("mx",)))
    connection.receive_data(b"EHLO x\r\n")
    connection.next_event()
    connection.send(connection.hello_reply("mx"))
    return connection


def commands() -> int:
    """One packet of pipelined commands; returns how many."""
    connection = _SERVER
    connection.receive_data(_COMMANDS)
    count = 0
    while connection.next_event() is not NEED_DATA:
        connection.send(OK)
        count += 1
    return count


def data(packets: list[bytes]) -> int:
    """One message by DATA; returns its octets."""
    connection = server()
    _open(connection, b"DATA\r\n")
    connection.next_event()
    connection.send(GO)
    return _read(connection, packets)


def bdat(packets: list[bytes]) -> int:
    """One message by BDAT; returns its octets."""
    connection = server()
    _open(connection, b"")
    return _read(connection, packets)


def _open(connection: Connection, last: bytes) -> None:
    connection.receive_data(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n" + last)
    for _ in range(2):
        connection.next_event()
        connection.send(OK)


def _read(connection: Connection, packets: list[bytes]) -> int:
    size = 0
    for packet in packets:
        connection.receive_data(packet)
        while (event := connection.next_event()) is not NEED_DATA:
            if isinstance(event, Content):
                size += len(event.octets)
            elif isinstance(event, EndOfContent):
                if event.defects or event.size != size:
                    raise SystemExit(f"{event} after {size} octets")
                return size
            elif not isinstance(event, Chunk):
                connection.send(OK)
    raise SystemExit("the content has no end")


def cut(octets: bytes) -> list[bytes]:
    """As a transport reads them."""
    return [octets[start : start + PACKET] for start in range(0, len(octets), PACKET)]


def repeated(lines: bytes) -> bytes:
    """The lines again and again up to CONTENT octets."""
    return lines * (CONTENT // len(lines))


def chunks(content: bytes) -> bytes:
    """The content as BDAT says it."""
    size = 1 << 20
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    last = len(pieces) - 1
    return b"".join(
        b"BDAT %d%s\r\n" % (len(piece), b" LAST" if at == last else b"") + piece for at, piece in enumerate(pieces)
    )


def rates(work: Callable[[], int], rounds: int, seconds: float) -> list[float]:
    """What ``work`` returned, per second, in each round."""
    found = []
    work()
    for _ in range(rounds):
        done, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            done += work()
        found.append(done / spent)
    return found


_SERVER = server()
_COMMANDS = (
    b"MAIL FROM:<a@example.org> SIZE=1000\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nRSET\r\n" * 25
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="The protocol core alone.")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each round")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    encoded = repeated(base64.b64encode(bytes(range(57))) + b"\r\n")
    line = "Grüße aus der Straße, ".encode() * 2
    text = repeated((line + b"in einer Zeile.\r\n") * 99 + b".." + line + b"\r\n")
    rows: dict[str, tuple[str, float, Callable[[], int]]] = {"commands": ("1/s", 1, commands)}
    for name, content in (("base64", encoded), ("text", text), ("dots", repeated(b"..\r\n"))):
        packets = cut(content + b".\r\n")
        rows[f"DATA, {name}"] = ("MB/s", MEGABYTE, lambda packets=packets: data(packets))  # type: ignore[misc]  # bound
    said = cut(chunks(encoded))
    try:
        bdat(said)
    except RemoteProtocolError:
        print("BDAT is not offered")
    else:
        rows["BDAT"] = ("MB/s", MEGABYTE, lambda: bdat(said))
    print("| core alone | median | lowest to highest | |\n|---|---:|---:|---|")
    for name, (unit, scale, work) in rows.items():
        found = [rate / scale for rate in rates(work, asked.rounds, asked.seconds)]
        print(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} | {unit} |")


if __name__ == "__main__":
    main()
