"""What can be wrong with a record: the Platform's error codes, and the few of our own."""

from __future__ import annotations

from typing import Final, NamedTuple

ORIGIN_NOT_NEWER: Final = "staged-origin-not-newer"
"""Our own code: there is a version of the record with as new an ``origin.time``, and the deduplicator would
keep that and drop this one silently."""

HASH_REPEATED: Final = "staged-hash-repeated"
"""Our own code: there is another record of the same kind at the same moment, and the deduplicator would keep
that and drop this one silently."""


class Problem(NamedTuple):
    """One thing that is wrong with a record.

    :param code: the Platform's error code, or one of ours, which begin with ``staged-``.
    :param pointer: JSON pointer relative to the record; ``""`` for the record as a whole.
    """

    code: str
    pointer: str


# Parse stage (P: structure/parser/errors.go). A record with one of these is not validated any further.
TYPE_NOT_BOOL: Final = "type-not-bool"
TYPE_NOT_FLOAT: Final = "type-not-float64"
TYPE_NOT_INT: Final = "type-not-int"
TYPE_NOT_STRING: Final = "type-not-string"
TYPE_NOT_TIME: Final = "type-not-time"
TYPE_NOT_OBJECT: Final = "type-not-object"
TYPE_NOT_ARRAY: Final = "type-not-array"
NOT_PARSABLE: Final = "value-not-parsable"
NOT_PARSED: Final = "not-parsed"
JSON_MALFORMED: Final = "json-malformed"

# Validation stage (P: structure/validator/errors.go). The first three also come from the kind of a record.
NOT_EXISTS: Final = "value-not-exists"
NOT_ALLOWED: Final = "value-not-allowed"
EXISTS: Final = "value-exists"
EMPTY: Final = "value-empty"
OUT_OF_RANGE: Final = "value-out-of-range"
NOT_VALID: Final = "value-not-valid"
NOT_AFTER: Final = "value-not-after"
DUPLICATE: Final = "value-duplicate"
NONE_OF_ANY: Final = "values-not-exist-for-any"
NONE_OF_ONE: Final = "values-not-exist-for-one"
LENGTH: Final = "length-out-of-range"
SIZE: Final = "size-out-of-range"

# Ours: the staged line never becomes a record.
STAGED_NOT_JSON: Final = "staged-not-json"
"""The line is no JSON text: broken, ``NaN``, a number beyond float64, nested too deeply, more behind it."""
STAGED_NOT_UTF8: Final = "staged-not-utf8"
"""The line is not UTF-8. The Platform would store U+FFFD for the bytes; we do not lose them silently."""
STAGED_TOO_MANY_VALUES: Final = "staged-too-many-values"
"""The line holds so many values that decoded it would take many times its size."""
STAGED_NUL_IN_NAME: Final = "staged-nul-in-name"
"""The name of a field holds the character U+0000. The Platform's validators let it pass, but its storage
cannot take it: it answers 500 to the whole request, each time."""
