"""The origin that every datum of a continuous data set has: by its ``id`` an edit finds what it replaces.

An existing ``origin.id`` is kept. Otherwise it is made from what does not change when a record is edited, so
that a duplicate, an overlap or a late edit has the same one, whichever batch brings it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.model import Problem, embedded_data
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.origins import Origin, origin_id_of, origin_of
from tidepool_ingest.staging.manifest import DEFAULT_ORIGIN_KEY, ORIGIN_TEXT_LENGTH, Manifest, OriginRule
from tidepool_ingest.staging.splice import with_member, with_member_in

KEY_MISSING: Final = "staged-origin-key-missing"
"""The record has no ``origin.id``, and lacks a field that the manifest names for making it."""

DEFAULT_NAME: Final = "tidepool-ingest"
"""Name of an origin where neither the manifest nor its data set names one."""

KEY_BYTES: Final = 16
"""Bytes of the hash in an origin id; with a type before it, far below the Platform's 100 characters."""


class RecordWithOrigins(NamedTuple):
    """A record with its origins.

    :param line: as it would be uploaded.
    :param origins: its own, then those of the data embedded in it.
    :param problems: why it cannot have one.
    """

    line: bytes
    origins: tuple[Origin, ...]
    problems: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        """Leave the record out."""
        return f"RecordWithOrigins(problems={self.problems!r})"


class OriginAssigner:
    """Assigns origins to the records of a batch.

    :param rule: what the manifest says.
    :param name: of the origins where the rule names none.
    """

    def __init__(self, rule: OriginRule, name: str | None = None) -> None:
        self._key = rule.key
        self._name = (rule.name or name or DEFAULT_NAME)[:ORIGIN_TEXT_LENGTH]
        self._type = rule.type

    @classmethod
    def of(cls, manifest: Manifest) -> OriginAssigner:
        """Return the assigner of a batch."""
        return cls(manifest.origin, manifest.client_name)

    def assign(self, line: bytes, datum: Mapping[str, Any]) -> RecordWithOrigins:
        """Assign origins to a record and to the data embedded in it.

        :param line: the record's text; what it has stays as it is, byte for byte.
        :param datum: the same, decoded; a model has accepted it.
        """
        own = origin_id_of(datum) or self._made_id(datum)
        if own is None:
            return RecordWithOrigins(line, (), (Problem(KEY_MISSING, "/origin/id"),))
        line = self._with(line, (), datum, own)
        origins = [origin_of(datum, own)]
        for name in embedded_data(datum):
            inner = datum[name]
            identifier = origin_id_of(inner) or self._made_id(inner) or _hashed(inner, ["in", own, name])
            line = self._with(line, (name,), inner, identifier)
            origins.append(origin_of(inner, identifier))
        return RecordWithOrigins(line, tuple(origins))

    def _with(self, line: bytes, path: tuple[str, ...], datum: Mapping[str, Any], identifier: str) -> bytes:
        if origin_id_of(datum):
            return line
        if isinstance(datum.get("origin"), Mapping):
            return with_member_in(line, (*path, "origin"), "id", json.dumps(identifier).encode())
        origin = json.dumps({"id": identifier, "name": self._name, "type": self._type}, separators=(",", ":"))
        return (
            with_member_in(line, path, "origin", origin.encode())
            if path
            else with_member(line, "origin", origin.encode())
        )

    def _made_id(self, datum: Mapping[str, Any]) -> str | None:
        values = [_value_at(datum, field) for field in self._key]
        for field, value in zip(self._key, values, strict=True):
            if value is None and field not in DEFAULT_ORIGIN_KEY:
                return None
        return _hashed(datum, values)


def _value_at(datum: Mapping[str, Any], field: str) -> Any:
    value: Any = datum
    for step in field.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    if field == "time" and isinstance(value, str) and (instant := parse_instant(value)):
        return list(instant.moment)  # however it is spelled
    return value


def _hashed(datum: Mapping[str, Any], values: list[Any]) -> str:
    """Make an origin id. It contains the type, so that no two types share one."""
    kind = str(datum["type"])
    key = dumps([kind, values], sort_keys=True, separators=(",", ":")).encode()
    return f"{kind}-{blake2b(key, digest_size=KEY_BYTES).hexdigest()}"
