"""The signature of a thinking block: a checksum of its text, which anyone can verify. Pure.

Anthropic's signatures prove who wrote a block. Here nobody's word is needed for that: whoever sends
a conversation writes all of it. The checksum says that a block comes back as it was given, on any
server and after any restart; other signatures are other servers', and taken as they are.
"""

from __future__ import annotations

import base64
import hashlib

PREFIX = "qwenkit-sha256-"


def sign(thinking: str) -> str:
    """The signature of a text."""
    digest = hashlib.sha256(thinking.encode("utf-8", "surrogatepass")).digest()
    return PREFIX + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def is_altered(thinking: str, signature: str) -> bool:
    """Whether a block of ours comes back with another text; one that was left out is none."""
    return bool(thinking) and signature.startswith(PREFIX) and signature != sign(thinking)
