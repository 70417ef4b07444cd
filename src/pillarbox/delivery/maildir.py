"""A route that writes into a maildir, for trying things out and for tests.

One file per message and attempt, whoever the recipients are: written to ``tmp/``, synced, moved to ``new/``, and
both directories' entries synced before the message counts as delivered. A Return-Path field goes in front, as a
final delivery does (RFC 5321 4.4); every other octet stays as it is, line ends included.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from pillarbox.delivery.abilities import too_late
from pillarbox.delivery.consignment import Consignment, Report, TryLater, Verdict
from pillarbox.delivery.settings import MaildirRoute
from pillarbox.spool.base import Delivered, Outbox, SpoolError, UnknownQueueId


class Maildir:
    """Delivers consignments as files; a carrier like a session."""

    def __init__(self, route: MaildirRoute, outbox: Outbox, hop: str, *, now: Callable[[], float]) -> None:
        self._route = route
        self._outbox = outbox
        self._hop = hop
        self._now = now
        self.carried = 0

    async def deliver(self, consignment: Consignment) -> Report:
        """Writes the file; each recipient gets the same verdict."""
        self.carried += 1
        lease = consignment.lease
        report = Report(success="delivered")
        if (late := too_late(lease.envelope, self._hop, self._now())) is not None:
            report.verdicts = dict.fromkeys((recipient.key for recipient in consignment.recipients), late)
            return report
        head = f"Return-Path: <{lease.envelope.reverse_path}>\r\n".encode()
        name = f"{int(self._now())}.{lease.envelope.queue_id}_{consignment.recipients[0].key}.pillarbox"
        writer: _Writer | None = None
        run = asyncio.get_running_loop().run_in_executor
        try:
            writer = await run(None, _Writer, self._route.path, name)
            if lease.content is not None:
                await run(None, writer.write, head + lease.content)
            else:
                await run(None, writer.write, head)
                async for octets in self._outbox.open(lease.envelope.queue_id):
                    await run(None, writer.write, octets)
            if not self._outbox.extend(lease):
                report.stopped = True
                return report
            await run(None, writer.deliver)
        except UnknownQueueId:
            report.stopped = True
            return report
        except OSError as error:
            verdict: Verdict = TryLater(f"4.3.0 {self._hop}: {error.strerror or type(error).__name__}")
        except SpoolError as error:
            verdict = TryLater(f"4.3.0 the content cannot be read now: {error}")
        else:
            verdict = Delivered(f"250 2.0.0 written as {name}", self._hop)
        finally:
            if writer is not None:
                writer.abandon()
        report.verdicts = dict.fromkeys((recipient.key for recipient in consignment.recipients), verdict)
        return report

    async def close(self) -> None:
        """Nothing is kept open."""

    def abort(self) -> None:
        """As close."""


class _Writer:
    """One file on its way from tmp/ to new/; called in the executor."""

    def __init__(self, maildir: Path, name: str) -> None:
        for folder in ("tmp", "new", "cur"):
            (maildir / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tmp = maildir / "tmp" / name
        self._new = maildir / "new" / name
        # an attempt that was broken off may have left its tmp file: same message, so overwrite it
        self._file = open(self._tmp, "wb", buffering=0, opener=_private)  # noqa: SIM115  closed by abandon
        self._delivered = False

    def write(self, octets: bytes) -> None:
        left = memoryview(octets)
        while left:
            left = left[self._file.write(left) :]

    def deliver(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._tmp, self._new)
        self._delivered = True
        for folder in (self._new.parent, self._tmp.parent):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def abandon(self) -> None:
        """Closes, and removes what was not delivered. Never raises."""
        self._file.close()
        if not self._delivered:
            self._tmp.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
