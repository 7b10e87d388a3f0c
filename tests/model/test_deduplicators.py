"""The Platform's deduplicators."""

from __future__ import annotations

from typing import Any

import pytest

from tidepool_ingest.model import (
    DEDUPLICATORS,
    DEVICE_DEACTIVATE_HASH,
    deduplicator_named,
    deduplicator_of,
    default_for,
    validate_data_set,
)
from tidepool_ingest.model.deduplicators import DEVICE_TRUNCATE_DATA_SET, NONE, inert_deduplicator


@pytest.mark.parametrize("deduplicator", DEDUPLICATORS, ids=lambda deduplicator: deduplicator.name)
def test_each_is_found_by_every_name(deduplicator: Any) -> None:
    for name in (deduplicator.name, *deduplicator.aliases):
        assert deduplicator_named(name) is deduplicator
        assert validate_data_set({"deduplicator": {"name": name}}) == ()
    assert deduplicator_named(deduplicator.name.upper()) is None


def test_which_changes_nothing() -> None:
    assert inert_deduplicator() is NONE


def test_which_need_a_device_id() -> None:
    assert [d.name.rsplit("deduplicator.")[1] for d in DEDUPLICATORS if d.needs_device_id] == [
        "device.deactivate.hash",
        "device.truncate.dataset",
    ]
    assert [d for d in DEDUPLICATORS if d.needs_datum_device_id] == [DEVICE_DEACTIVATE_HASH]


@pytest.mark.parametrize(
    ("manufacturers", "model", "expected"),
    [
        (["Medtronic"], "1711", DEVICE_DEACTIVATE_HASH),
        (["X", "LifeScan"], "Verio", DEVICE_DEACTIVATE_HASH),
        (["Trividia Health"], "TRUE METRIX AIR", DEVICE_DEACTIVATE_HASH),
        (["Abbott"], "FreeStyle Libre", DEVICE_DEACTIVATE_HASH),
        (["Abbott"], "FreeStyle Libre 2", None),
        (["medtronic"], "1711", None),
        (["Animas"], None, DEVICE_TRUNCATE_DATA_SET),
        (["Tandem"], "1711", None),
        (None, "1711", None),
    ],
)
def test_what_a_device_implies(manufacturers: list[str] | None, model: str | None, expected: object) -> None:
    body = {"deviceId": "d", "deviceManufacturers": manufacturers, "deviceModel": model}
    assert default_for(body) is expected
    assert default_for({**body, "dataSetType": "normal"}) is expected
    assert default_for({**body, "dataSetType": "continuous"}) is None
    assert default_for({**body, "deviceId": None}) is None


def test_the_name_asked_for_wins() -> None:
    body = {"deviceId": "d", "deviceManufacturers": ["Animas"], "deduplicator": {"name": NONE.name}}
    assert deduplicator_of(body) is NONE
    assert deduplicator_of({**body, "deduplicator": {}}) is DEVICE_TRUNCATE_DATA_SET
    assert deduplicator_of({**body, "deduplicator": {"name": "org.example.unknown"}}) is None


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("keeps_repeats", ["device.deactivate.hash", "device.truncate.dataset", "none"]),
        ("keeps_newer", ["dataset.delete.origin.older"]),
        ("drops_equal", ["dataset.drop.hash"]),
        ("may_drop", ["dataset.delete.origin.older", "dataset.drop.hash"]),
        ("may_be_split", ["device.deactivate.hash", "none"]),
    ],
)
def test_what_each_does_with_records(flag: str, expected: list[str]) -> None:
    named = [d.name.removeprefix("org.tidepool.deduplicator.") for d in DEDUPLICATORS if getattr(d, flag)]

    assert named == expected
