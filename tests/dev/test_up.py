"""What ``make up`` says of the DAGs once Airflow runs."""

from __future__ import annotations

import pytest
from dev.up import state_of_dags

from tidepool_airflow.links import DAG_OF_TYPE
from tidepool_ingest.plan import Unfinished

PAUSED = {
    "tidepool_continuous_upload": True,
    "tidepool_digest": False,
    "tidepool_normal_upload": False,
    "tidepool_on_arrival": True,
}


@pytest.mark.parametrize(
    ("by_itself", "end"),
    [
        (False, "nothing is run by schedule or on arrival; make up UP_BY_ITSELF=1 does that."),
        (True, "what is due by schedule or arrives is run by itself, of DAGs that are not paused."),
    ],
)
def test_it_says_which_dags_are_paused_and_what_lies_staged_for_them(by_itself: bool, end: str) -> None:
    left = {"continuous": Unfinished(6, 1), "normal": Unfinished(8, 3)}

    assert list(state_of_dags(PAUSED, left, by_itself=by_itself)) == [
        "tidepool_normal_upload is not paused; staged for it and not done: 8 batches in 3 day folders.",
        "tidepool_continuous_upload is paused; staged for it and not done: "
        "6 batches of feeds in 1 day folder.",
        "paused as well: tidepool_on_arrival.",
        end,
    ]


def test_it_says_that_nothing_is_staged_too() -> None:
    lines = list(state_of_dags(dict.fromkeys(PAUSED, False), {}, by_itself=False))

    assert lines[0] == "tidepool_normal_upload is not paused; staged for it and not done: no batches."
    assert lines[2] == "paused as well: none."


def test_it_knows_which_dag_takes_which_batches() -> None:
    from dev import up

    assert up.DAG_OF_TYPE == DAG_OF_TYPE
