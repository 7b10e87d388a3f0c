"""Identity hashes, by vectors of the Platform and by what they must not depend on."""

from __future__ import annotations

import hashlib
import pickle
from base64 import b64encode
from typing import Any

import pytest

from tests.model.examples import EXAMPLES, GONE, example
from tidepool_ingest.model import NoIdentityError, identity_fields, identity_hash, stored_form

TIME = "2024-03-04T05:06:07Z"


def hash_of(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_hash_is_made_as_the_platform_makes_it() -> None:
    assert hash_of("alpha|bravo|charlie") == "dO3wei6LXqnM+oEql2hguPTmyM0+QnmIZPyxzlvL2xY="
    record = {"time": "2017-02-05T13:26:51.000Z", "type": "cbg", "units": "mmol/L", "value": 6.60539}
    found = identity_hash(record, user_id="1111111111", scope="MMT-1711:12345678")
    assert found == "i8wAmzIkGpamtRrtcyuDCujMHOwJZZMyQVOtYI44ORw="


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_fields_of_every_kind(name: str) -> None:
    more = {
        "cbg": ("mmol/L", "6.60539"),
        "smbg": ("mmol/L", "6.5"),
        "bloodKetone": ("mmol/L", "0.6"),
    }.get(name, tuple(name.split(" ")[1:]))
    for record in stored_form(example(name))[:1]:
        assert identity_fields(record) == (TIME, record["type"], *more)


def test_split_off_records_have_an_identity_of_their_own() -> None:
    _, bolus = stored_form(example("wizard"))
    assert identity_fields(bolus) == (TIME, "bolus", "normal")
    assert identity_hash(bolus, user_id="u", scope="d") == hash_of(f"u|d|{TIME}|bolus|normal")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"time": "2024-03-04T05:06:07.000Z"}, {"time": "2024-03-04T05:06:07Z"}, True),
        ({"time": "2024-03-04T05:06:07Z"}, {"time": "2024-03-04T06:06:07+01:00"}, False),
        ({"time": "2024-03-04T05:06:07Z"}, {"time": "2024-03-04T05:06:07.000001Z"}, False),
        ({"units": "mg/dL", "value": 100}, {"units": "mmol/l", "value": 5.55075}, True),
        ({"units": "mg/dL", "value": 119}, {"units": "mmol/L", "value": 6.6054}, False),
        ({"payload": {"a": 1}}, {"payload": {"a": 2}}, True),
    ],
)
def test_what_makes_two_records_one(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    hashes = {
        identity_hash(stored_form(example("cbg", changes))[0], user_id="u", scope="d")
        for changes in (one, other)
    }
    assert (len(hashes) == 1) is same


def test_a_staged_time_gives_the_same_fields_as_a_stored_one() -> None:
    assert identity_fields(example("basal temp")) == identity_fields(stored_form(example("basal temp"))[0])


@pytest.mark.parametrize(
    ("changes", "user_id", "scope", "field"),
    [
        ({}, "", "d", "user id"),
        ({}, "u", None, "deviceId"),
        ({}, "u", "", "deviceId"),
        ({"time": GONE}, "u", "d", "time"),
        ({"value": GONE}, "u", "d", "value"),
        ({"units": ""}, "u", "d", "units"),
        ({"type": GONE}, "u", "d", "type"),
    ],
)
def test_what_has_no_identity(changes: dict[str, Any], user_id: str, scope: str | None, field: str) -> None:
    with pytest.raises(NoIdentityError, match=field) as caught:
        identity_hash(example("cbg", changes), user_id=user_id, scope=scope)
    assert caught.value.field == field
    assert pickle.loads(pickle.dumps(caught.value)).field == field
