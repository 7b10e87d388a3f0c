"""What the Platform's hash deduplicators distinguish records by (P: data/deduplicator/deduplicator/hash.go).

The content of a record is hardly part of it: a corrected bolus replaces the older one, a corrected glucose
value does not, and two records of one type at one second on one device are one unless their kinds differ.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.gojson import go_float
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.specification import literal_fields

SEPARATOR: Final = "|"

_TYPE_FIELDS: Final = {literal_fields(model)["type"]: model.identity for model in DATUM_MODELS}


class NoIdentityError(ValueError):
    """A record lacks something that its identity is made of, so that the Platform could not store it.

    :param field: what is missing or empty.
    """

    def __init__(self, field: str) -> None:
        super().__init__(
            f"A record without {field} has no identity: the Platform answers 500 to the whole request that "
            "brings it to a data set with a hash deduplicator. Quarantine it, or have the field set."
        )
        self.field = field

    def __reduce__(self) -> tuple[type[NoIdentityError], tuple[str]]:
        return type(self), (self.field,)


def identity_fields(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of a stored record makes its identity, apart from the user and the device or data set.

    :param stored: a record as in :func:`tidepool_ingest.model.stored.stored_form`.
    :return: time, type, and what its type adds: delivery type, sub-type, or units and value.
    :raises NoIdentityError: when one of them is missing or empty.
    """
    instant = parse_instant(str(stored.get("time") or ""))
    type_name = stored.get("type")
    type_fields = _TYPE_FIELDS.get(type_name, ()) if isinstance(type_name, str) else ()
    found: dict[str, Any] = {"time": instant and instant.text, "type": type_name}
    found.update((name, stored.get(name)) for name in type_fields)
    for name, value in found.items():
        if value is None or value == "":
            raise NoIdentityError(name)
    return tuple(value if isinstance(value, str) else go_float(value) for value in found.values())


def identity_hash(stored: Mapping[str, Any], *, user_id: str, scope: str | None) -> str:
    """Compute a record's identity hash as the Platform does.

    :param stored: a record as in :func:`tidepool_ingest.model.stored.stored_form`.
    :param user_id: whose record it is.
    :param scope: what it is compared within: the record's ``deviceId``, or the data set's ``uploadId`` for
        the deduplicator ``org.tidepool.deduplicator.dataset.drop.hash``.
    :return: SHA-256 in base64.
    :raises NoIdentityError: when something is missing that it is made of; ``deviceId`` stands for a missing
        scope.
    """
    if not user_id:
        raise NoIdentityError("user id")
    if not scope:
        raise NoIdentityError("deviceId")
    from hashlib import sha256  # loaded only here: a verdict asks for no hash

    text = SEPARATOR.join((user_id, scope, *identity_fields(stored)))
    return b64encode(sha256(text.encode()).digest()).decode()
