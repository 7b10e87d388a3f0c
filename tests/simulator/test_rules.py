"""A Platform whose validators have moved on since the model was written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.simulator.api_user import ApiUser
from tidepool_simulator import Simulator
from tidepool_simulator.rules import Rule


@pytest.fixture(autouse=True)
def _no_rule_is_left(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.rules.clear()


def test_what_breaks_a_rule_is_rejected_and_nothing_is_stored(simulator: Simulator, owner: ApiUser) -> None:
    simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    data_set = owner.open()

    response = owner.post(data_set, [owner.cbg(6.5), owner.cbg(20.5, 1)])

    assert response.status_code == 400
    error = response.json()
    assert (error["code"], error["source"]) == ("value-out-of-range", {"pointer": "/1/value"})
    assert owner.post(data_set, [owner.cbg(20)]).status_code == 200
    owner.close(data_set)
    assert owner.values() == [20]


def test_what_parsing_finds_hides_what_validation_finds(simulator: Simulator, owner: ApiUser) -> None:
    simulator.rules.add(
        Rule(type="cbg", pointer="/value", above=20),
        Rule(pointer="/deviceTime", equals="x", code="type-not-string", in_parsing=True),
    )
    data_set = owner.open()

    errors = [owner.cbg(20.5), owner.cbg(6.5, 1, payload={"a": 1})]
    simulator.rules.add(Rule(pointer="/payload/a", equals=1, code="value-not-valid", in_parsing=True))
    response = owner.post(data_set, errors)

    assert response.json()["source"] == {"pointer": "/1/payload/a"}


def test_rules_come_and_go_over_http(simulator: Simulator, owner: ApiUser) -> None:
    url = f"{simulator.base_url}/simulator/rules"
    rule = {"type": "cbg", "pointer": "/value", "above": 20}
    data_set = owner.open()

    assert requests.post(url, json=[rule], timeout=10).status_code == 204
    assert owner.post(data_set, [owner.cbg(21)]).status_code == 400
    assert requests.delete(url, timeout=10).status_code == 204
    assert owner.post(data_set, [owner.cbg(21)]).status_code == 200


def test_a_rule_of_the_storage_lets_validation_pass_and_fails_the_request(
    simulator: Simulator, owner: ApiUser
) -> None:
    simulator.rules.add(Rule(type="cbg", pointer="/value", equals=6.5, in_storage=True))
    data_set = owner.open()

    assert owner.post(data_set, [owner.cbg(5.5), owner.cbg(6.5, 1)]).status_code == 500
    assert owner.post(data_set, [owner.cbg(5.5), owner.cbg(60, 1)]).status_code == 400
    assert owner.post(data_set, []).status_code == 200
    assert owner.post(data_set, [owner.cbg(5.5)]).status_code == 200
    owner.close(data_set)
    assert owner.values() == [5.5]
