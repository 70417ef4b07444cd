"""One mail transaction: a fresh object per MAIL, thrown away at its end, RSET or the session's end.

It takes recipients and content, completes the header (RFC 6409 8) and commits. The header is held until it is
whole; then rights are checked once more and the content flows on: up to INLINE_LIMIT octets are held and committed
at once, more goes to the spool in chunks.

STANDARDS
    RFC 5321 3.3 and 6.3 (loops), RFC 6409 8, RFC 6531, RFC 3030 (BINARYMIME), RFC 3461 4 (DSN), RFC 8689 5.

ERRORS
    Refused; spool errors become 451 or 452 replies here.
"""

from dataclasses import dataclass

from pillarbox.directory.base import Identity
from pillarbox.message.date import date_time
from pillarbox.message.envelope import Envelope
from pillarbox.message.fixup import complete, message_id
from pillarbox.message.header import MAX_HEADER_SIZE, Header, find_header_end, needs_smtputf8, parse
from pillarbox.message.received import protocol_keyword, received
from pillarbox.smtp.events import Body, Defect, EndOfContent, MailParameters, RcptParameters
from pillarbox.spool.base import INLINE_LIMIT, ContentWriter, Full, Intake, SpoolError
from pillarbox.submission import replies, rights
from pillarbox.submission.replies import Refused
from pillarbox.submission.settings import SiteSettings
from pillarbox.submission.terms import NO_TERMS, Terms

MAX_RECEIVED = 100
"""Received fields that a submitted message may have; more is a loop (RFC 5321 6.3)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a session knows of itself that goes into the trace field and the envelope."""

    session_id: str
    helo: str
    esmtp: bool
    address: str
    tls: tuple[str, str] | None


def refusal_of(error: SpoolError) -> Refused:
    """The reply that a spool's error becomes; the cause goes to the log."""
    if isinstance(error, Full):
        return Refused(replies.SPOOL_FULL, f"spool full: {error}")
    return Refused(replies.SPOOL_UNAVAILABLE, f"spool unavailable: {error}")


class Transaction:
    """See the module's text."""

    __slots__ = (
        "_asked",
        "_chunks",
        "_header",
        "_header_done",
        "_held",
        "_intake",
        "_now",
        "_origin",
        "_site",
        "_stored",
        "_terms",
        "_tls_optional",
        "_writer",
        "content_refusal",
        "content_until",
        "forward_paths",
        "identity",
        "needs_smtputf8",
        "parameters",
        "queue_id",
        "reverse_path",
    )  # fmt: skip

    def __init__(
        self,
        *,
        identity: Identity,
        reverse_path: str,
        parameters: MailParameters,
        queue_id: str,
        now: float,
        site: SiteSettings,
        origin: Origin,
        intake: Intake,
        terms: Terms = NO_TERMS,
    ) -> None:
        """MAIL was accepted. ``now``: seconds since the epoch, for the trace field and Date."""
        self.identity = identity
        self.reverse_path = reverse_path
        self.parameters = parameters
        self.queue_id = queue_id
        self.forward_paths: dict[str, RcptParameters] = {}
        self.content_until: float | None = None  # on the loop's clock, once content began to come
        self.needs_smtputf8 = False
        self._asked = False  # by a RCPT, for something that the envelope carries for each
        self._terms = terms
        self._tls_optional = False
        self._now = now
        self._site = site
        self._origin = origin
        self._intake = intake
        self._header = bytearray()
        self._header_done = False
        self._chunks: list[bytes] = []
        self._held = 0
        self._stored = 0
        self._writer: ContentWriter | None = None
        self.content_refusal: Refused | None = None

    def add_recipient(self, forward_path: str, parameters: RcptParameters) -> bool:
        """Whether it is a new one; a forward path given twice is kept as it was given first. Raises Refused."""
        if forward_path in self.forward_paths:
            return False
        if len(self.forward_paths) >= self._site.max_recipients:
            raise Refused(replies.TOO_MANY_RECIPIENTS, f"more than {self._site.max_recipients} recipients")
        self.forward_paths[forward_path] = parameters
        if parameters.notify or parameters.original_recipient:
            self._asked = True
        return True

    async def add_content(self, octets: bytes) -> None:
        """Takes a chunk. What leads to a refusal is kept for the end of the content; the rest is then dropped."""
        if self.content_refusal is not None:
            return
        try:
            if not self._header_done:
                self._add_header(octets)
            else:
                self._hold(octets)
            if self._held > INLINE_LIMIT and self._header_done:
                await self._spill()
        except Refused as refused:
            self._refuse_at_end(refused)
        except SpoolError as error:
            self._refuse_at_end(refusal_of(error))

    def refusal_so_far(self, defects: frozenset[Defect]) -> Refused | None:
        """At the end of a chunk that is not the last: nothing that follows can mend what is wrong already."""
        return self._defect(defects) if defects else self.content_refusal

    async def commit(self, end: EndOfContent) -> Envelope:
        """The content is whole: durable when this returns. Raises Refused."""
        if end.defects:
            raise self._defect(end.defects)
        if not self._header_done and self.content_refusal is None:
            self._finish_without_body()
        if self.content_refusal is not None:
            raise self.content_refusal
        envelope = self._envelope(end)
        try:
            if self._writer is None:
                chunks = self._chunks
                await self._intake.commit(envelope, chunks[0] if len(chunks) == 1 else b"".join(chunks))
            else:
                await self._spill()
                await self._writer.commit(envelope)
                self._writer = None
        except SpoolError as error:
            raise refusal_of(error) from error
        return envelope

    def _envelope(self, end: EndOfContent) -> Envelope:
        parameters, terms = self.parameters, self._terms
        asked = tuple(self.forward_paths.values()) if self._asked else ()
        notify = tuple([each.notify for each in asked])
        originals = tuple([each.original_recipient for each in asked])
        return Envelope(
            queue_id=self.queue_id,
            reverse_path=self.reverse_path,
            forward_paths=tuple(self.forward_paths),
            received_at=self._now,
            size=self._stored + self._held,
            eight_bit=end.eight_bit,
            smtputf8=self.needs_smtputf8,
            login=self.identity.login,
            site=self._site.name,
            session_id=self._origin.session_id,
            binary=parameters.body is Body.BINARY_MIME,
            ret=parameters.ret,
            envid=parameters.envid,
            notify=notify if any(notify) else (),
            original_recipients=originals if any(originals) else (),
            hold_until=terms.hold_until,
            deliver_by=terms.deliver_by,
            deliver_by_mode=parameters.deliver_by_mode if parameters.deliver_by is not None else "",
            priority=parameters.priority or 0,
            require_tls=parameters.require_tls,
            tls_optional=self._tls_optional and not parameters.require_tls,  # RFC 8689 4.1: the parameter wins
        )

    async def abandon(self) -> None:
        """The transaction ended without a commit. Never raises."""
        if self._writer is not None:
            await self._writer.abandon()
            self._writer = None

    # --- inside

    def _refuse_at_end(self, refused: Refused) -> None:
        """Keeps the refusal and nothing else: the frames behind an exception hold the header in all its parts, and
        the end of the content may be far."""
        refused.__context__ = refused.__cause__ = None
        self.content_refusal = refused.with_traceback(None)
        self._chunks.clear()
        self._header = bytearray()

    def _hold(self, octets: bytes) -> None:
        self._chunks.append(octets)
        self._held += len(octets)

    def _add_header(self, octets: bytes) -> None:
        """Gathers the header. It nearly always comes whole in the first chunk; else in one growing buffer, searched
        from where the last search ended, so that a header sent octet by octet costs no more than its size."""
        buffer = self._header
        searched = len(buffer)
        if searched:
            buffer += octets
        end = find_header_end(buffer, searched) if searched else find_header_end(octets)
        if (end or searched + len(octets)) > MAX_HEADER_SIZE:
            raise Refused(replies.HEADER_TOO_BIG, f"no end of the header in {MAX_HEADER_SIZE} octets")
        if end is None:
            if not searched:
                buffer += octets
            return
        content = bytes(buffer) if searched else octets
        self._header = bytearray()
        self._header_done = True
        self._hold(self._completed(content[:end]))
        if end < len(content):
            self._hold(content[end:])

    def _finish_without_body(self) -> None:
        """The content ended inside the header: it is a header as a whole (RFC 5322 3.5)."""
        try:
            self._hold(self._completed(bytes(self._header)))
        except Refused as refused:
            self.content_refusal = refused

    def _completed(self, header: bytes) -> bytes:
        """The header with what RFC 6409 8 adds and takes away, after rights were checked. Raises Refused."""
        smtputf8 = self.parameters.smtputf8
        fields = parse(header)
        rights.check_header(self.identity, fields, smtputf8=smtputf8)
        self._look_at(fields)
        self.needs_smtputf8 = smtputf8 and needs_smtputf8(header, self.reverse_path, *self.forward_paths)
        site, origin, paths = self._site, self._origin, self.forward_paths
        trace = received(
            helo=origin.helo,
            address=None if site.hide_client_address else origin.address,
            host=site.name,
            protocol=protocol_keyword(
                esmtp=origin.esmtp, tls=origin.tls is not None, authenticated=True, smtputf8=self.needs_smtputf8
            ),
            tls=origin.tls,
            queue_id=self.queue_id,
            forward_path=next(iter(paths)) if len(paths) == 1 else None,
            now=self._now,
        )
        return complete(
            fields,
            trace=trace,
            date=date_time(self._now),
            message_id=message_id(self.queue_id, site.name),
            own_names=frozenset((site.name.encode(),)),
        )

    def _look_at(self, header: Header) -> None:
        """What other fields mean for the message. Raises Refused."""
        fields = header.fields
        if len(fields) > MAX_RECEIVED and sum([name == b"received" for name, _ in fields]) > MAX_RECEIVED:
            raise Refused(replies.LOOP, f"more than {MAX_RECEIVED} Received fields")
        self._tls_optional = _is_tls_optional(header)

    async def _spill(self) -> None:
        """Hands what is held to the spool."""
        if self._writer is None:
            self._writer = self._intake.writer(self.queue_id)
        chunks, self._chunks = self._chunks, []
        self._stored += self._held
        self._held = 0
        for chunk in chunks:
            await self._writer.write(chunk)

    def _defect(self, defects: frozenset[Defect]) -> Refused:
        if Defect.TOO_BIG in defects:
            return Refused(replies.TOO_BIG, f"content over {self._site.max_message_size} octets")
        if Defect.LINE_TOO_LONG in defects:
            limit = self._site.max_text_line
            return Refused(replies.line_too_long(limit), f"a line over {limit} octets")
        if Defect.LEADING_NUL in defects:
            return Refused(replies.LEADING_NUL, "a line that begins with NUL")
        if Defect.BARE_LF in defects:
            return Refused(replies.BARE_LINE_END, "bare CR or LF in the content")
        return Refused(replies.BARE_CR, "bare CR in the content")


def _is_tls_optional(header: Header) -> bool:
    """TLS-Required: No, given once (RFC 8689 4): any other value, and a second one, say nothing."""
    return [body.strip(b" \t").lower() for body in header.bodies(b"tls-required")] == [b"no"]
