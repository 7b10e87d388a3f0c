"""Field pointers that may be shown: without the names that people gave to their schedules."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from tidepool_ingest.model.data_set import DataSet
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.fields import Record
from tidepool_ingest.model.specification import Kind, fields_of, literal_fields

MASK: Final = "*"


@cache
def _names() -> tuple[frozenset[str], frozenset[str]]:
    """Collect the names of all fields, and of those whose content people name."""
    known: set[str] = set()
    maps: set[str] = set()
    seen: set[type[Record]] = set()
    waiting: list[type[Record]] = [*DATUM_MODELS, DataSet]
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        known.update(literal_fields(model))
        for spec in fields_of(model):
            known.add(spec.name)
            waiting.extend(spec.models)
            if spec.kind in (Kind.OBJECT_MAP, Kind.OBJECTS_MAP):
                maps.add(spec.name)
    return frozenset(known), frozenset(maps)


def masked_pointer(pointer: str) -> str:
    """Replace what somebody made up in a pointer by ``*``; field names of the model and array indexes stay.

    :param pointer: a problem's pointer.
    """
    return "/".join(_masked(pointer.split("/")))


def _masked(parts: Iterable[str]) -> Iterable[str]:
    known, maps = _names()
    before = ""
    for part in parts:
        is_shown = before not in maps and (part in known or part == "" or (part.isascii() and part.isdigit()))
        yield part if is_shown else MASK
        before = part if is_shown else ""
