"""What somebody whose mail failed can do, in plain words, by status code.

STANDARDS
    RFC 3463 (and the registry it opened: RFC 6710, 6531, 7505, 8689).

ERRORS
    None: an unknown code has general words.
"""

_BY_DETAIL = {
    "1.1": "The address does not exist there. Check its spelling, or ask the person for the present one.",
    "1.2": "The domain of the address takes no mail. Check the spelling of what stands behind the @.",
    "1.3": "The address is not written as addresses are. Check its spelling.",
    "1.10": "The domain of the address says that it takes no mail at all. Ask the person for another address.",
    "2.1": "The mailbox is there but takes no mail. Reach the person another way.",
    "2.2": "The mailbox is full. Send it again later, or reach the person another way.",
    "2.3": "The message is larger than this mailbox takes. Send less, or a link in place of the attachment.",
    "3.4": "The message is larger than that system takes. Send less, or a link in place of the attachment.",
    "4.6": "The message went in circles. That is a fault in how mail is routed: tell your administrator.",
    "4.7": "That system could not be reached, or put us off, until the time was over. Check what stands behind the "
    "@; if it is right, send the message again later.",
    "6.3": "That system cannot take the message's 8-bit text. A mail program that encodes it (quoted-printable or "
    "base64) can send it.",
    "6.7": "That system cannot take international addresses or header fields. Use plain ASCII addresses for it.",
}

_BY_SUBJECT = {
    "1": "The address was not accepted. Check its spelling.",
    "2": "The mailbox did not take the message. Send it again later, or reach the person another way.",
    "4": "That system could not be reached properly. Send the message again later, or tell your administrator.",
    "6": "That system did not like the form of the message. Try it without its attachments.",
    "7": "That system refused the message by its own rules. What it said may name the reason; its administrators, "
    "or yours, can tell more.",
}

_GENERAL = "What was said above may name the reason. If it does not help, show this report to your administrator."


def advice(status: str) -> str:
    """One or two sentences for a status like "5.1.1"."""
    _, _, detail = status.partition(".")
    return _BY_DETAIL.get(detail) or _BY_SUBJECT.get(detail.partition(".")[0]) or _GENERAL
