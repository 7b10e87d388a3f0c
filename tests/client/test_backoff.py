from __future__ import annotations

import logging

import pytest

from tests.timing import Clock
from tidepool_ingest.client.backoff import BackOff
from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolError,
    TidepoolRejectedError,
    TidepoolUnreachableError,
)


class Attempts:
    """Fail with each error in turn, then succeed."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def away(**more: object) -> TidepoolUnreachableError:
    return TidepoolUnreachableError("read", **more)  # type: ignore[arg-type]


def test_it_tries_again_with_growing_pauses(backoff: BackOff, pauses: list[float]) -> None:
    attempts = Attempts(away(), TidepoolBusyError("read"), away())
    assert backoff(attempts) == "done"
    assert attempts.made == 4
    for pause, mean in zip(pauses, (0.5, 1.0, 2.0), strict=True):
        assert 0.5 * mean <= pause <= 1.5 * mean


def test_pauses_differ(pauses: list[float]) -> None:
    for _ in range(10):
        BackOff(sleep=pauses.append)(Attempts(away()))
    assert len(set(pauses)) == 10


def test_it_gives_up_with_the_last_error(backoff: BackOff) -> None:
    errors = [away(reason=f"reason {number}") for number in range(5)]
    with pytest.raises(TidepoolUnreachableError, match="reason 3"):
        backoff(Attempts(*errors))


def test_it_waits_as_long_as_asked_for(backoff: BackOff, pauses: list[float]) -> None:
    assert backoff(Attempts(TidepoolBusyError("read", retry_after=7.0))) == "done"
    assert pauses == [7.0]


def test_a_long_pause_is_left_to_the_caller(backoff: BackOff, pauses: list[float]) -> None:
    attempts = Attempts(TidepoolBusyError("read", retry_after=60.0))
    with pytest.raises(TidepoolBusyError):
        backoff(attempts)
    assert attempts.made == 1
    assert pauses == []


@pytest.mark.parametrize(
    "error", [TidepoolAuthenticationError("read"), TidepoolRejectedError("read"), ValueError()]
)
def test_what_will_not_pass_is_not_tried_again(backoff: BackOff, error: Exception) -> None:
    attempts = Attempts(error)
    with pytest.raises(type(error)):
        backoff(attempts)
    assert attempts.made == 1


def test_patience_ends(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("tenacity.time", clock)

    def slow() -> str:
        clock.sleep(0.05)
        raise away()

    with pytest.raises(TidepoolError):
        BackOff(attempts=100, patience=0.12, sleep=pauses.append)(slow)
    assert len(pauses) == 2


def test_it_says_so(backoff: BackOff, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backoff(Attempts(away(reason="no connection")))
    assert "read: no connection, trying again in" in caplog.text
