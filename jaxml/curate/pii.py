"""Personal data in texts: e-mail and public IPv4 addresses become placeholders."""

import ipaddress
import re
from typing import NamedTuple

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}"
_EMAIL = re.compile(
    rf"\b{_ATOM}(?:\.{_ATOM}){{0,8}}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.){{1,8}}"
    r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])\b"
)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\d.]){_OCTET}(?:\.{_OCTET}){{3}}(?!\d|\.\d)", re.ASCII)


class Redacted(NamedTuple):
    """A text without personal data, and how many of each kind were replaced."""

    text: str
    num_emails: int
    num_addresses: int


def redact(text: str, email: str = "<EMAIL>", address: str = "<IP_ADDRESS>") -> Redacted:
    """Replaces e-mail addresses, and IPv4 addresses that are global.

    Private, loopback and documentation addresses and version numbers of other lengths stay. Time
    is linear in the text: every repetition in the patterns is bounded.

    Args:
      text: a document.
      email: put in place of an e-mail address.
      address: put in place of an IPv4 address.

    >>> redact("Write to ann.b@mail.example.org from 8.8.8.8, not 10.0.0.1.").text
    'Write to <EMAIL> from <IP_ADDRESS>, not 10.0.0.1.'
    """
    replaced = 0

    def public(match: re.Match[str]) -> str:
        nonlocal replaced
        if not ipaddress.ip_address(match.group()).is_global:
            return match.group()
        replaced += 1
        return address

    text, num_emails = _EMAIL.subn(lambda _: email, text) if "@" in text else (text, 0)
    text = _IPV4.sub(public, text)
    return Redacted(text, num_emails, replaced)
