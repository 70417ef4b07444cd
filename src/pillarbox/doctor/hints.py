"""What a next hop's refusal usually means, and what its administrator has to allow.

A table from (step, words in the reply) to advice; the first line that fits is it. The names of settings are those of
the products' own screens and manuals.

ERRORS
    None.
"""

import re
from dataclasses import dataclass

from pillarbox.smtp.reply import Reply


@dataclass(frozen=True, slots=True)
class _Hint:
    steps: frozenset[str]
    pattern: re.Pattern[str]
    advice: str


def _hint(steps: str, pattern: str, advice: str) -> _Hint:
    return _Hint(frozenset(steps.split()), re.compile(pattern, re.IGNORECASE), advice)


_HINTS = (
    _hint(
        "greeting MAIL RCPT",
        r"block ?-?list|black ?-?list|\brbl\b|dnsbl|spamhaus|sorbs|barracuda|\blisted\b|\bblocked (?:using|by)\b",
        "a DNS blacklist refuses this host: have the next hop allow its address before the list is asked "
        "(Postfix: permit_mynetworks before reject_rbl_client; Domino: a private whitelist entry)",
    ),
    _hint(
        "EHLO AUTH MAIL RCPT",
        r"must issue a starttls|starttls (?:command )?(?:first|required)|encryption required|\b5\.7\.10\b",
        'the next hop wants TLS: set tls = "starttls" in the route',
    ),
    _hint(
        "AUTH",
        r"5\.7\.30|basic authentication is (?:disabled|not supported)",
        'the next hop takes no passwords any more: set mechanism = "XOAUTH2" and a secret_command that prints tokens',
    ),
    _hint(
        "AUTH",
        r"^53[45]|5\.7\.8|5\.7\.9",
        "user or secret is wrong, or the account may not use SMTP: see [route.auth]",
    ),
    _hint(
        "MAIL RCPT",
        r"^530|authentication (?:is )?required|must authenticate|not authenticated|5\.7\.57",
        "the next hop takes mail only after a sign-in: set [route.auth], or have it allow this host's address",
    ),
    _hint(
        "MAIL RCPT",
        r"greylist|graylist|try again later|temporarily deferred",
        "greylisting: have the next hop leave this host out of it, or every first message will be late",
    ),
    _hint(
        "MAIL RCPT",
        r"reverse|\bptr\b|rdns|hostname|host name|helo|does not resolve|cannot find your",
        "the next hop checks this host's name: give its address a PTR record, or have it leave this host out "
        '(Domino: "Verify connecting hostname in DNS")',
    ),
    _hint(
        "MAIL RCPT",
        r"5\.1\.8|domain (?:of sender|not found)|sender's? domain|unresolvable",
        "the next hop looks the sender's domain up in DNS and does not find it: name an address of a real own domain "
        "with --sender",
    ),
    _hint(
        "MAIL RCPT",
        r"\bsize\b|too (?:big|large)|5\.3\.4|^552",
        "the next hop takes smaller messages: raise its limit, or lower the site's max_message_size",
    ),
    _hint(
        "RCPT",
        r"relay|5\.7\.54|5\.7\.64|not permitted|anti-?relay",
        "the next hop must let this host relay (Postfix: add it to mynetworks; Domino: Configuration, Router/SMTP, "
        'SMTP Inbound Controls, "Exclude these connecting hosts from anti-relay checks"; Exchange: a receive '
        "connector for this address with ms-Exch-SMTP-Accept-Any-Recipient; Microsoft 365: an inbound connector that "
        "knows this address or certificate)",
    ),
    _hint(
        "RCPT",
        r"5\.1\.1|5\.1\.2|5\.1\.10|user unknown|no such (?:user|recip)|mailbox (?:unavail|not found)|not exist",
        "the next hop does not know that recipient: name one that exists with --recipient",
    ),
    _hint(
        "MAIL RCPT",
        r"sender address|not owned|spoof|own domain|local domain|not allowed to send|access denied|reject|denied|"
        r"5\.7\.1|5\.7\.60|policy",
        "an MX often refuses its own domain as sender, since only strangers come to it: have it allow that from this "
        "host's address (Postfix: permit_mynetworks before check_sender_access; Domino: take this host out of "
        '"Deny messages from" and the anti-spoofing rule; Exchange: a receive connector with '
        "ms-Exch-SMTP-Accept-Authoritative-Domain-Sender)",
    ),
    _hint(
        "greeting",
        r"^[45]",
        "the next hop refuses this host before it said a word: look for its address in access lists there",
    ),
)


def advise(step: str, reply: Reply) -> str:
    """What to do about a refusal at ``step`` (greeting, EHLO, AUTH, MAIL, RCPT); "" when nothing is known."""
    text = in_words(reply)
    for hint in _HINTS:
        if step in hint.steps and hint.pattern.search(text):
            return hint.advice
    return ""


def in_words(reply: Reply) -> str:
    """A reply in one line."""
    enhanced = f"{reply.enhanced} " if reply.enhanced else ""
    return f"{reply.code} {enhanced}{' '.join(reply.text)}".strip()


_STARS = re.compile(r"\A[*0-9 ]{4,}|\*{4,}")
_MASKED = re.compile(r"\AX{4,}[A-Z]?\Z")

CISCO = (
    "a firewall between here and there rewrites SMTP (Cisco ESMTP inspection or PIX fixup): have "
    "`inspect esmtp` removed for this path, or allow-tls added; it breaks TLS, sign-in and long lines"
)


def greeting_is_masked(reply: Reply) -> bool:
    """Whether the greeting was replaced by stars on the way."""
    return any(_STARS.search(line) for line in reply.text)


def masked_keywords(keywords: dict[str, str]) -> list[str]:
    """EHLO keywords that were overwritten by X on the way."""
    return [word for word in keywords if _MASKED.match(word)]
