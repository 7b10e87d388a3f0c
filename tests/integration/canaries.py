"""Records, names and values of a person that nobody may tell, and the search for them."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

from tests.factories import Record, bolus, cbg, wizard
from tests.world import Listener, Outcome, World
from tidepool_ingest.reports.run import report_on

DEVICE = "canary-device-serial-4711"


FILE = "canary-file-Jane-Doe.ndjson"


BATCH = "canary-batch-Jane-Doe"


TEXT = "canary-payload-text"


KEY = "canary-schedule-name"


VALUE = 7.654321
"""A reading that nothing else can be mistaken for."""


def settings(**more: Any) -> Record:
    return {
        "type": "pumpSettings",
        "time": "2026-03-01T00:00:00Z",
        "deviceId": DEVICE,
        "activeSchedule": KEY,
        "basalSchedules": {KEY: [{"start": 0, "rate": 1}]},
        "units": {"bg": "mmol/L", "carb": "grams"},
    } | more


GOOD: list[Record | bytes] = [
    *[cbg(number, VALUE, deviceId=DEVICE, payload={"note": TEXT, KEY: 1}) for number in range(30)],
    wizard(40, deviceId=DEVICE, bolus=bolus(40, 7.654321, deviceId=DEVICE)),
    settings(),
]


REFUSED: list[Record | bytes] = [
    cbg(50, 1000 + VALUE, deviceId=DEVICE, payload={"note": TEXT}),
    cbg(51, VALUE, deviceId=DEVICE, units=TEXT),
    settings(basalSchedules={KEY: [{"start": 7, "rate": 7.654321}]}),
    {"type": TEXT, "deviceId": DEVICE},
    b'{"canary-key": "canary-payload-text"',
]


def told_by(world: World, outcome: Outcome, listener: Listener) -> str:
    """Return all that a run tells: log, errors with their parts and traces, summaries, the report."""
    errors = [
        f"{error} {error!r} {vars(error)!r} {pickle.loads(pickle.dumps(error))!r}"
        + "".join(traceback.format_exception(error))
        for error in outcome.errors.values()
    ]
    report = report_on(world.ledger, outcome.plan.batches)
    return "\n".join(
        [
            *listener.lines,
            *errors,
            str(outcome.plan.summary()),
            *[str(one.model_dump()) for one in outcome.prepared.values()],
            *[str(vars(one)) for one in outcome.uploaded.values()],
            str(report.table()),
            *report.causes(),
            report.outcome(),
            str(report.summary()),
        ]
    )


def secrets_of(world: World) -> list[str]:
    token = world.client._tokens.token()
    return [world.user, DEVICE, FILE, BATCH, TEXT, KEY, "canary", "7.654321", "654321", token]


def nothing_private(world: World, outcome: Outcome, listener: Listener) -> bool:
    text = told_by(world, outcome, listener)
    for secret in secrets_of(world):
        at = text.find(secret)
        assert at < 0, text[max(0, at - 300) : at + 100]
    return True


def stage(world: World, records: list[Record | bytes], **more: Any) -> Path:
    return world.stage(
        records,
        BATCH,
        name=more.pop("name", FILE),
        data_set={"deviceId": DEVICE, "deviceSerialNumber": DEVICE} | more.pop("data_set", {}),
        **more,
    )
