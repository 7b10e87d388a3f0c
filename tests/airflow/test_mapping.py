"""A plan that is made again for the same run never gets shorter."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow.mapping import pad_plan, skip_without_batch


class Store(dict[str, Any]):
    """The store of one task, as far as it is used."""

    def set(self, key: str, value: Any, *, retention: object) -> None:
        self[key] = value


def test_a_shorter_plan_is_filled_up() -> None:
    context: dict[str, Any] = {"task_state_store": Store()}

    assert pad_plan([[7], [8]], context) == [[7], [8]]
    assert pad_plan([], context) == [[], []]
    assert pad_plan([[9]], context) == [[9], []]
    assert pad_plan([[7, 5], [8], [9]], context) == [[7, 5], [8], [9]]
    assert pad_plan([[8]], context) == [[8], [], []]


def test_a_place_without_batch_is_skipped() -> None:
    context: Any = {}
    with pytest.raises(AirflowSkipException):
        skip_without_batch([], context)

    assert context["label"] == "nothing to do"
    skip_without_batch([1], context)
