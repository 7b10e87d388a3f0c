from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select, update

from tidepool_ingest.ledger import Ledger, ReadManifest
from tidepool_ingest.ledger.retention import Person
from tidepool_ingest.ledger.schema import manifests

READ = ReadManifest(
    fingerprint="1" * 64,
    user_id="0123456789",
    content_key="c" * 64,
    label="2026-01-02 Model 5 0a1b2c3d4e",
    connection="clinic_b",
    device_id="device-1",
    data_set_type="continuous",
)


def test_what_has_not_changed_is_known_as_it_was_read(ledger: Ledger) -> None:
    ledger.manifests.save({"/staging/a": READ})

    assert ledger.manifests.known({"/staging/a": "1" * 64, "/staging/b": "1" * 64}) == {"/staging/a": READ}
    assert ledger.manifests.known({"/staging/a": "2" * 64}) == {}
    assert ledger.manifests.known({}) == {}


def test_what_is_read_again_takes_the_place_of_what_was_known(ledger: Ledger) -> None:
    changed = replace(READ, fingerprint="2" * 64, content_key="d" * 64, connection=None)
    ledger.manifests.save({"/staging/a": READ, "/staging/b": READ})
    ledger.manifests.save({"/staging/a": changed, "/staging/c": READ})

    asked = {"/staging/a": "2" * 64, "/staging/b": "1" * 64, "/staging/c": "1" * 64}
    assert ledger.manifests.known(asked) == {"/staging/a": changed, "/staging/b": READ, "/staging/c": READ}


def test_more_than_a_statement_takes_are_noted_and_known(ledger: Ledger) -> None:
    many = {f"/staging/{number}": replace(READ, content_key=f"{number:064x}") for number in range(1_203)}
    ledger.manifests.save(many)

    assert ledger.manifests.known(dict.fromkeys(many, "1" * 64)) == many


def test_meeting_one_again_is_written_once_a_week(ledger: Ledger) -> None:
    def met_on() -> date | None:
        with ledger.database.reading() as connection:
            return connection.scalar(select(manifests.c.met_on))

    today = datetime.now(UTC).date()
    ledger.manifests.save({"/staging/a": READ})
    for ago, kept in ((6, True), (7, False), (400, False)):
        day = today - timedelta(days=ago)
        with ledger.database.writing() as connection:
            connection.execute(update(manifests).values(met_on=day))
        assert ledger.manifests.known({"/staging/a": "1" * 64}) == {"/staging/a": READ}
        assert (met_on() == day) is kept


def test_what_manifests_of_a_person_gave_goes_with_the_person(ledger: Ledger) -> None:
    other = replace(READ, user_id="9876543210")
    ledger.manifests.save({"/staging/a": READ, "/staging/b": other})

    Person(ledger.database, "0123456789").erase_manifests()

    assert ledger.manifests.known(dict.fromkeys(("/staging/a", "/staging/b"), "1" * 64)) == {
        "/staging/b": other
    }
