"""What the built-in redactions look for, each with a function that replaces it in a text.

They aim at what people paste by mistake. No pattern finds everything, and each takes out some
innocent text; the guide says what they know.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

EMAIL = re.compile(r"[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}")

# International; North American; national with a leading 0; mobile numbers of mainland China.
PHONE = re.compile(
    r"(?<![\w.])\+\d(?:[ ().-]{0,2}\d){6,14}(?!\d)"
    r"|(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
    r"|(?<![\w.-])0\d{2,4}[ /-]\d{3,9}(?:[ -]\d{2,5}){0,3}(?![\w-])"
    r"|(?<![\w.])1[3-9]\d{9}(?!\w)"
)
CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w-])")
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
IPV6 = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![\w:])"
)

TOKEN = re.compile(
    r"\b(?:"
    r"(?:sk|pk|rk)[-_][\w-]{16,256}"
    r"|gh[oprsu]_\w{20,256}|github_pat_\w{20,256}|glpat-[\w-]{16,256}"
    r"|hf_[A-Za-z0-9]{20,256}|xox[abeprs]-[\w-]{10,256}|npm_[A-Za-z0-9]{30,256}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}"
    r"|eyJ[\w-]{8,4096}\.[\w-]{8,8192}\.[\w-]{8,4096}"
    r")"
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}KEY-----|\Z)"
)
BEARER = re.compile(r"(?i)(\bbearer\s{1,4})[\w.~+/=-]{8,4096}")
IN_URL = re.compile(r"(://[^\s:/@]{1,256}:)[^\s/@]{1,256}(?=@)")
ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|auth[_-]?token"
    r"|private[_-]?key)[\"']?\s{0,4}[:=]\s{0,4}[\"']?)[^\s\"',;]{6,1024}"
)


def _secret(text: str) -> str:
    text = PRIVATE_KEY.sub("[secret]", text)
    text = TOKEN.sub("[secret]", text)
    for pattern in (BEARER, IN_URL, ASSIGNED):
        text = pattern.sub(r"\1[secret]", text)
    return text


def _email(text: str) -> str:
    return EMAIL.sub("[email]", text) if "@" in text else text


def _card(text: str) -> str:
    return CARD.sub(lambda found: "[card]" if _luhn(found[0]) else found[0], text)


def _phone(text: str) -> str:
    return PHONE.sub("[phone]", text)


def _ip(text: str) -> str:
    text = IPV4.sub(_address, text)
    return IPV6.sub(_address, text) if ":" in text else text


def _luhn(number: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    digits = [int(each) for each in reversed(number) if each.isdigit()]
    doubled = (each * 2 for each in digits[1::2])
    return (sum(digits[::2]) + sum(each - 9 if each > 9 else each for each in doubled)) % 10 == 0


def _address(found: re.Match[str]) -> str:
    # Without a digit it is rather a name in a program: `dead::beef`.
    if not any(each.isdigit() for each in found[0]):
        return found[0]
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return "[ip]"


BUILT_IN: dict[str, Callable[[str], str]] = {
    "secret": _secret,
    "email": _email,
    "card": _card,
    "phone": _phone,
    "ip": _ip,
}
"""By name, in the order they run in: a secret may hold an address, a card looks like a phone."""
