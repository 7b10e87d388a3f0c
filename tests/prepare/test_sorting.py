"""Which records are accepted, refused or repeats, in the order in which they come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.factories import DEVICE, Record, alarm, cbg, wizard
from tidepool_ingest.model import decode
from tidepool_ingest.prepare.classify import Judgement, RecordClassifier
from tidepool_ingest.prepare.digests import content_digest
from tidepool_ingest.prepare.record_checks import RecordChecker

ID = "0" * 31


def line(record: Record | bytes) -> bytes:
    return record if isinstance(record, bytes) else json.dumps(record).encode()


def outcome(record: Judgement) -> str:
    if record.problems:
        return " ".join(code for code, _pointer in record.problems)
    return "identical" if record.identical else "accepted"


def sort(*blocks: list[Record | bytes], **about: Any) -> list[str]:
    with RecordClassifier(RecordChecker(**about)) as sorter:
        return [
            outcome(record) for block in blocks for record in sorter.classify([line(one) for one in block])
        ]


def test_null_is_no_record_though_the_platform_says_nothing() -> None:
    assert sort([cbg(1), b"null", b" null\t"]) == ["accepted", "staged-null", "staged-null"]


def test_repeats_are_found_within_a_block_and_across_blocks() -> None:
    respelled = b" " + line(dict(reversed(cbg(1).items()))).replace(b"6.5", b"6.50")
    assert sort([cbg(1), cbg(2), cbg(1)], [respelled, cbg(3)], [cbg(3)]) == [
        "accepted",
        "accepted",
        "identical",
        "identical",
        "accepted",
        "identical",
    ]


def test_repeats_are_found_whatever_else_is_said_of_them() -> None:
    """A calculation holds a bolus, a late one gets a warning: both are looked at closely, and come once."""
    late = cbg(3, time="2026-03-05T10:00:00+01:00")
    block: list[Record | bytes] = [wizard(1), late, wizard(1), cbg(2), b"null", late, cbg(2, 99), cbg(2)]
    expected = ["accepted", "accepted", "identical", "accepted", "staged-null", "identical"]
    refused, again = "value-out-of-range", "identical"
    assert sort(block) == [*expected, refused, again]
    assert sort(block, block)[8:] == [again, again, again, again, "staged-null", again, refused, again]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"b":{"c":2,"d":[3]}}', b' { "b" : {"d":[3],"c":2}, "a":1}', True),
        (b'{"a":1e2}', b'{"a":100.0}', True),
        (b'{"a":"\\u00e9\\/"}', '{"a":"é/"}'.encode(), True),
        (b'{"a":1,"a":2}', b'{"a":2}', True),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":1}', b'{"a":"1"}', False),
        (b'{"a":0}', b'{"a":null}', False),
        (b'{"a":null}', b"{}", False),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
        (b'{"a":[[1],2]}', b'{"a":[[1,2]]}', False),
        (b'{"a":0.1}', b'{"a":0.10000000000000002}', False),
        (b'{"a":9007199254740993}', b'{"a":9007199254740992}', False),
        (b'{"a":{"b":1}}', b'{"a":["b",1]}', False),
        (b'{"a":""}', b'{"a":[]}', False),
    ],
)
def test_a_record_is_the_same_in_every_spelling_and_no_other_is(one: bytes, other: bytes, same: bool) -> None:
    assert (content_digest(one, decode(one)) == content_digest(other, decode(other))) is same


def test_what_repeats_a_refused_record_is_refused_too() -> None:
    without = {name: value for name, value in cbg(1).items() if name != "deviceId"}
    refused = sort(
        [cbg(0), without, without], [cbg(2, 99), cbg(2, 99)], needs_device_id=True, device_id=DEVICE
    )
    missing, range_ = "staged-device-id-missing", "value-out-of-range"
    assert refused == ["accepted", missing, missing, range_, range_]


def test_an_identifier_is_taken_once() -> None:
    records: list[Record | bytes] = [
        cbg(1, id=ID + "1"),
        cbg(2, id=ID + "1"),
        cbg(1, id=ID + "1"),
        wizard(3, id=ID + "2", bolus={**wizard(3)["bolus"], "id": ID + "2"}),
        wizard(4, bolus={**wizard(4)["bolus"], "id": ID + "1"}),
        cbg(5, id=ID + "2"),
        cbg(6, id=ID + "2"),
    ]
    again = "staged-id-repeated"
    assert sort(records[:3], records[3:]) == ["accepted", again, "identical", again, again, "accepted", again]


def test_numbers_and_texts_that_cannot_be_spelled_anew_are_compared_as_they_stand() -> None:
    huge = line(cbg(1)).replace(b"6.5", b"6.5").replace(b"}", b',"payload":{"n":%d}}' % 10**30)
    lone = line(cbg(2)).replace(b"}", b',"payload":{"n":"\\ud800"}}')
    assert sort([huge, huge, lone, lone]) == ["accepted", "identical", "accepted", "identical"]


def test_what_is_special_about_a_record_is_told() -> None:
    late = cbg(3, time="2026-03-05T10:00:00+01:00")
    with RecordClassifier(RecordChecker()) as sorter:
        found = sorter.classify([line(one) for one in (cbg(1), alarm(2), late, cbg(4, id=ID + "1"), cbg(5))])
    records = list(found)
    assert [record.embedded for record in records] == [(), ("status",), (), (), ()]
    assert [bool(record.warnings) for record in records] == [False, False, True, False, False]
    assert [record.has_own_id for record in records] == [False, False, False, True, False]
    assert [record.line for record in records] == found.lines


@pytest.mark.parametrize("record", [cbg(2), cbg(2, deviceId="other"), cbg(2, id=ID + "1")])
def test_what_travels_inside_another_is_accepted_but_not_uploaded(record: Record) -> None:
    inside = {content_digest(line(record), record)}
    with RecordClassifier(RecordChecker(), inside) as sorter:
        found = sorter.classify([line(one) for one in (cbg(1), record, record, cbg(3))])
    assert [(one.accepted, one.is_embedded) for one in found] == [
        (True, False),
        (True, True),
        (False, False),
        (True, False),
    ]
    lines, records = found.to_upload()
    assert list(lines) == [line(cbg(1)), line(cbg(3))]
    assert found.data_to_upload() == [cbg(1), cbg(3)]
    assert [record.time for record in records] == [cbg(1)["time"], cbg(3)["time"]]


def test_a_block_of_which_nothing_is_left() -> None:
    with RecordClassifier(RecordChecker()) as sorter:
        found = sorter.classify([b"null", b"{}"])
    assert [list(part) for part in found.to_upload()] == [[], []]
