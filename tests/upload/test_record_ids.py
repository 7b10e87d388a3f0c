"""The identifiers that records are given as they are sent: appended to the text, never by writing it anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidepool_ingest.deep_json import loads
from tidepool_ingest.model import embedded_data
from tidepool_ingest.staging.splice import with_member_in
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.upload.record_ids import datum_id, ids_of, with_ids

OWN = "0123456789abcdef0123456789abcdef"
DATA_SET = "upid_" + "a" * 32

bolus = {"type": "bolus", "subType": "normal", "normal": 4.0, "time": "2026-01-01T00:00:00Z"}
wizard = {"type": "wizard", "bgInput": 8.6, "bolus": bolus}
change = {
    "type": "deviceEvent",
    "subType": "reservoirChange",
    "status": {"type": "deviceEvent", "duration": 1},
}
RECORDS: list[dict[str, Any]] = [
    {"type": "cbg", "value": 5.5},
    {"type": "cbg", "value": 5.5, "id": OWN},
    {"type": "cbg", "value": 5.5, "id": None},
    {"type": "cbg", "payload": {"id": OWN, "bolus": {"type": "bolus"}}},
    {"type": "cbg", "annotations": [{"code": 'a "bolus":{'}, {"code": "\ud800"}]},
    wizard,
    {**wizard, "id": OWN},
    {**wizard, "bolus": {**bolus, "id": OWN}},
    {**wizard, "bolus": {**bolus, "id": None}},
    {**wizard, "bolus": OWN},
    {**wizard, "payload": {"bolus": {"type": "bolus"}}},
    {**wizard, "payload": {"note": '"bolus":{'}},
    {**wizard, "notes": "bolus"},
    change,
    {**change, "status": OWN},
]


def chunk_of(records: int, *, first: int = 0, plain: bool = False) -> Chunk:
    return Chunk(
        index=0, first_record=first, offset=0, length=1, records=records, digest="0" * 64, plain=plain
    )


def identified(datum: dict[str, Any], ordinal: int) -> dict[str, Any]:
    """A record as it should be sent: each datum of it with the identifier that it has, or a new one."""
    named = dict(datum)
    for field in ("bolus", "status"):
        if isinstance(named.get(field), dict):
            inner = named[field]
            named[field] = {**inner, "id": inner.get("id") or datum_id(DATA_SET, ordinal, field)}
    named["id"] = datum.get("id") or datum_id(DATA_SET, ordinal)
    return named


def written(datum: dict[str, Any], style: str) -> bytes:
    text = json.dumps(datum, separators=(",", ":") if style == "compact" else (", ", ": "))
    if style == "escaped":
        text = text.replace('"bolus"', '"bol\\u0075s"').replace('"id"', '"\\u0069d"')
    return text.encode() + (b" " if style == "trailing" else b"")


@settings(max_examples=300, deadline=None)
@given(
    records=st.lists(st.sampled_from(RECORDS), max_size=6),
    style=st.sampled_from(["compact", "spaced", "escaped", "trailing"]),
    first=st.integers(0, 10**6),
)
def test_each_datum_has_one_identifier_and_all_else_stays(
    records: list[dict[str, Any]], style: str, first: int
) -> None:
    lines = [written(datum, style) for datum in records]
    chunk = chunk_of(len(lines), first=first)

    sent = list(with_ids(lines, chunk, DATA_SET))

    expected = [identified(datum, ordinal) for ordinal, datum in enumerate(records, first)]
    assert [loads(record.line) for record in sent] == expected
    assert [record.ordinal for record in sent] == list(range(first, first + len(lines)))
    assert [record.ids for record in sent] == list(ids_of(lines, chunk, DATA_SET))
    for record, datum in zip(sent, expected, strict=True):
        inner = [value["id"] for name, value in datum.items() if name in ("bolus", "status") and value != OWN]
        assert record.ids == (datum["id"], *inner)


def decoded_one_by_one(line: bytes, ordinal: int) -> tuple[bytes, tuple[str, ...]]:
    """A record as it should be sent, byte for byte: decoded by the slower decoder, spliced by the grammar."""
    datum = loads(line)
    found = [("", datum), *((name, datum[name]) for name in embedded_data(datum))]
    ids = [inner.get("id") or datum_id(DATA_SET, ordinal, name) for name, inner in found]
    for (name, inner), own in reversed(list(zip(found, ids, strict=True))):
        if inner.get("id") is None:
            line = with_member_in(line, (name,) if name else (), "id", json.dumps(own).encode())
    return line, tuple(ids)


odd = st.sampled_from(
    [
        10**30,
        1e308,
        "\ud800",
        "é",
        "},{",
        '"bolus":{',
        '"id"',
        None,
        True,
        [[{"id": OWN}]],
        {"type": "wizard"},
    ]
)
odd_names = st.sampled_from(
    ["payload", "annotations", "notes", "bolus", "status", "id\ud800", "ID", "subType"]
)
odd_records = st.builds(
    lambda datum, more, first: {**more, **datum} if first else {**datum, **more},
    st.sampled_from(RECORDS),
    st.dictionaries(odd_names, odd, max_size=3),
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(
    records=st.lists(odd_records, max_size=6),
    style=st.sampled_from(["compact", "spaced", "escaped", "trailing"]),
    ascii_only=st.booleans(),
)
def test_it_is_what_decoding_each_record_by_itself_gives(
    records: list[dict[str, Any]], style: str, ascii_only: bool
) -> None:
    lines = [written(datum, style) for datum in records]
    if not ascii_only:
        lines = [line.replace(b"\\u00e9", "é".encode()) for line in lines]

    sent = with_ids(lines, chunk_of(len(lines)), DATA_SET)

    expected = [decoded_one_by_one(line, ordinal) for ordinal, line in enumerate(lines)]
    assert [record.ids for record in sent] == [ids for _, ids in expected]
    assert [loads(record.line) for record in sent] == [loads(line) for line, _ in expected]
    for record, line, (spliced, _) in zip(sent, lines, expected, strict=True):
        assert sorted(record.line) == sorted(spliced)  # where it was put may differ, and nothing else
        assert all(ids in record.line or ids in line for ids in map(str.encode, record.ids))


def test_a_plain_chunk_is_not_decoded() -> None:
    lines = [b'{"type":"cbg","value":5.5}', b"{not even JSON}"]
    chunk = chunk_of(2, plain=True)

    assert [record.ids for record in with_ids(lines, chunk, DATA_SET)] == list(ids_of(lines, chunk, DATA_SET))


@pytest.mark.parametrize("repeated", ["bolus", "id"])
def test_of_a_repeated_name_the_last_one_counts(repeated: str) -> None:
    line = written(wizard, "compact")
    line = (
        line.replace(b'"bolus":', b'"bolus":{"type":"bolus","n":1},"bolus":') if repeated == "bolus" else line
    )
    line = line[:-1] + b',"id":"%b","id":null}' % OWN.encode() if repeated == "id" else line

    (sent,) = with_ids([line], chunk_of(1), DATA_SET)

    assert loads(sent.line) == identified(loads(line), 0)
    assert sent.ids == (datum_id(DATA_SET, 0), datum_id(DATA_SET, 0, "bolus"))
