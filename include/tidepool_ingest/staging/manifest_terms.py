"""What can be said of a manifest without its models: names, limits, lists of words, and how JSON is read.

The models are made by pydantic, which takes longer to load than most files to read: who needs no more than
these does without.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, Literal

from tidepool_ingest.texts import problem_of

MANIFEST_NAME = "manifest.json"

MAX_MANIFEST_BYTES = 1024 * 1024
"""Largest manifest read; one names some files, not their content."""

MAX_NAME_LENGTH = 200
"""Characters of a file name or batch id: storages allow 255 bytes, and work files add to them."""

BATCH_ID_PATTERN = rf"^[^\s._/\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{{0,{MAX_NAME_LENGTH - 1}}}$"
"""A plain folder name; those that begin with ``.`` or ``_`` are not batches."""

DEFAULT_DEDUPLICATOR = "org.tidepool.deduplicator.device.deactivate.hash"
"""For the create body when the manifest names none: what Tidepool's own Uploader uses for every device."""

DEFAULT_CONTINUOUS_DEDUPLICATOR = "org.tidepool.deduplicator.dataset.delete.origin"
"""The same for a continuous data set: what Loop uses, among others."""

GlucoseUnits = Literal["mg/dL", "mmol/L"]

_BATCH_ID = re.compile(BATCH_ID_PATTERN)

CheckOutcome = Literal["warn", "refuse", "ignore"]
"""What a finding leads to: counting the record in the report, quarantining it, or nothing."""


USUAL_OUTCOME: Final[CheckOutcome] = "warn"
"""What it leads to where the manifest does not say."""

DateOrder = Literal["dmy", "mdy", "ymd"]
"""Whether dates begin with the day, the month or the year."""

MeantAs = Literal[
    "clock-not-in-zone",
    "dates-swapped",
    "device-renamed",
    "replaces-loses-days",
    "zone-differs",
    "zone-implausible",
]
"""Codes of what holds a batch until its manifest says that it is meant so."""


class StrictJsonError(ValueError):
    """A text is not strict JSON.

    :param detail: what is wrong, without any of the text.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


def strict_json(content: bytes) -> Any:
    """Parse JSON strictly: UTF-8, each key once, no number that JSON or a double cannot hold.

    :param content: the text; a byte order mark before it is skipped.
    :raises StrictJsonError: it is not strict JSON.
    """
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode()
        return json.loads(
            text, object_pairs_hook=_no_duplicate_keys, parse_float=_finite, parse_constant=_finite
        )
    except StrictJsonError:
        raise
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start + 1:,})"
    except json.JSONDecodeError as error:
        problem = f"it is not JSON (line {error.lineno}, column {error.colno})"
    except ValueError:  # an integer of more digits than Python reads
        problem = "it holds a number out of range"
    except RecursionError:
        problem = "it is nested too deeply"
    raise StrictJsonError(problem)


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise StrictJsonError("an object in it names a key twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError("it holds a number out of range")
    return number


def is_batch_id(text: str) -> bool:
    """Return whether a text can be the name of a batch folder."""
    return _BATCH_ID.fullmatch(text) is not None and problem_of(text) is None
