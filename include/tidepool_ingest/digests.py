"""Digests of eight bytes for texts of which only the equality matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

digest_of: Final[Callable[[str | bytes], int]] = hash
"""Returns a signed whole number of 64 bits: Python's own hash, SipHash under a key of this process.

It is the fastest there is, and nobody can stage texts that are made to collide, since the key is secret.
Among five million texts, the probability that two different ones collide is one in a million.

It has no meaning in another process. The ledger stores digests without a key:
:func:`tidepool_ingest.ledger.origin_digest`.
"""
