"""Pseudonyms of people and devices for use outside the ledger, the staging paths and the quarantine file."""

from __future__ import annotations

import hashlib

SHORT_HASH_DIGITS = 10
"""Hex digits of a short hash: enough to distinguish all users of a clinic network in a log."""


def short_hash(text: str) -> str:
    """Return the short hash that represents a user id, device id or path.

    The same text always gives the same hash, so that log lines, mapped task labels and the ledger's
    table can be matched with each other. It hides the text from a reader, not from somebody who
    already has a list of candidates.

    :param text: what must not be shown.
    :return: ``SHORT_HASH_DIGITS`` lower-case hex digits.
    """
    return hashlib.blake2b(
        text.encode(), digest_size=SHORT_HASH_DIGITS // 2, person=b"tidepool-ingest"
    ).hexdigest()
