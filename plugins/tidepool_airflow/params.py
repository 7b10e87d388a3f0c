"""The trigger forms of the DAGs."""

from __future__ import annotations

from airflow.sdk import Param

from tidepool_airflow import settings
from tidepool_ingest.options import (
    CHECK_AFTER_DAYS,
    CHECK_BATCHES,
    CHUNK_RECORDS,
    LOOK_BACK_DAYS,
    MAX_QUARANTINED_PERCENT,
    OLDER_THAN_MINUTES,
    PART_RECORDS,
    WhenRefused,
)

USUAL = "Run Parameters"
"""Airflow's own name of the section that its form opens by itself: what most people want to choose."""

FURTHER = "Where to look"
CARE = "With care"
SPEED = "How fast"

FEWER_RECORDS = (500, 250, 100, 50, 10, 1)
"""Records a request that the form offers besides the usual number."""


def upload_params(look_back_days: int = LOOK_BACK_DAYS) -> dict[str, Param]:
    """Return the parameters of an upload run; their defaults are what a scheduled run uses.

    :param look_back_days: how many earlier day folders a scheduled run looks into.
    """
    return {
        "first_day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="First day",
            section=USUAL,
            description="Oldest day folder to take. Without any day: what is ready and not done of late.",
        ),
        "last_day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Last day",
            section=USUAL,
            description="Newest day folder to take. With one of the two days, only that one is taken.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            section=USUAL,
            description="Only look: every record is validated, and nothing is opened at Tidepool. The log of "
            "the task report shows what would be sent, refused and archived.",
        ),
        "users": Param(
            [],
            type=["null", "array"],
            items={"type": "string"},
            title="Only these people",
            section=USUAL,
            description="Short hashes that logs show, or Tidepool user ids, one a line. Empty for everybody. "
            "Airflow shows what you write here to everybody who can see the run.",
        ),
        "look_back_days": Param(
            look_back_days,
            type="integer",
            minimum=0,
            maximum=3660,
            title="Days to look back",
            section=FURTHER,
            description="Without explicit days: how many earlier day folders to look into for late arrivals.",
        ),
        "staging_root": Param(
            None,
            type=["null", "string"],
            title="Staging root",
            section=FURTHER,
            description="Folder or URL with the day folders, if not the deployment's own.",
        ),
        "force": Param(
            False,
            type="boolean",
            title="Upload again",
            section=CARE,
            description="Also take batches that are done. The usual deduplicator archives the older copies.",
        ),
        "allow_doubling": Param(
            False,
            type="boolean",
            title="Twice is meant",
            section=CARE,
            description="Upload again also where nothing is archived, so that the records are there twice.",
        ),
        "allow_truncate": Param(
            False,
            type="boolean",
            title="Delete all else of the device",
            section=CARE,
            description="Take batches whose deduplicator deletes whatever else Tidepool has of the device.",
        ),
        "allow_older": Param(
            False,
            type="boolean",
            title="Older content may win",
            section=CARE,
            description="Also upload batches staged before something that is verified of their device.",
        ),
        "max_quarantined_percent": Param(
            MAX_QUARANTINED_PERCENT,
            type="number",
            minimum=0,
            maximum=100,
            title="Refused records allowed (%)",
            section=CARE,
            description="A batch with a larger share of refused records stops before anything is sent.",
        ),
        "when_refused": Param(
            WhenRefused.FAIL.value,
            type="string",
            enum=[one.value for one in WhenRefused],
            values_display={
                WhenRefused.FAIL.value: "Fail: the batch stays held, the others go on",
                WhenRefused.ASK.value: "Ask a person, and wait for the answer",
            },
            title="When too many are refused",
            section=CARE,
            description="Who is asked sees the counts, and approves, rejects or uploads only the good ones.",
        ),
        "chunk_records": Param(
            CHUNK_RECORDS,
            type="integer",
            enum=[CHUNK_RECORDS, *FEWER_RECORDS],
            values_display={str(CHUNK_RECORDS): f"{CHUNK_RECORDS:,}, as Tidepool asks for"},
            title="Records a request",
            section=SPEED,
            description="Fewer only help where requests are too large.",
        ),
        "part_records": Param(
            PART_RECORDS,
            type="integer",
            minimum=1,
            maximum=1_000_000,
            title="Records a data set",
            section=SPEED,
            description="A batch of more is cut into parts, each with a data set of its own, so that closing "
            "and reading back stay within the gateway's time.",
        ),
        "parallel_chunks": Param(
            None,
            type=["null", "integer"],
            enum=[None, *range(1, settings.parallel_chunks() + 1)],
            values_display={"null": f"As many as the deployment allows: {settings.parallel_chunks()}"},
            title="Requests at the same time",
            section=SPEED,
            description="Of one data set. A run can only lower what the deployment allows.",
        ),
    }


def action_params() -> dict[str, Param]:
    """Return the parameter of a run that does what somebody asked for on the uploads page."""
    return {
        "action": Param(
            0,
            type="integer",
            minimum=0,
            title="Number of the note",
            section=USUAL,
            description="The uploads page fills it in and starts the run: nothing is done that was not asked "
            "for there.",
        ),
    }


def reconcile_params() -> dict[str, Param]:
    """Return the parameters of a maintenance run; their defaults are what an hourly run uses."""
    return {
        "older_than_minutes": Param(
            OLDER_THAN_MINUTES,
            type="integer",
            minimum=0,
            maximum=525_600,
            title="Left for so many minutes",
            section=USUAL,
            description="What the ledger has noted nothing of for so long counts as left unfinished.",
        ),
        "check_batches": Param(
            CHECK_BATCHES,
            type="integer",
            minimum=0,
            maximum=1_000,
            title="Verified batches to look at again",
            section=USUAL,
            description="So many at most, those first that nobody has looked at for longest; 0 for none.",
        ),
        "check_after_days": Param(
            CHECK_AFTER_DAYS,
            type="integer",
            minimum=0,
            maximum=3_660,
            title="Days between two looks",
            section=USUAL,
            description="A verified batch is due again so many days after its last look.",
        ),
        "staging_root": Param(
            None,
            type=["null", "string"],
            title="Staging root",
            section=FURTHER,
            description="Folder or URL with the work areas, if not the deployment's own.",
        ),
        "repair": Param(
            True,
            type="boolean",
            title="Repair what was verified",
            section=CARE,
            description="Upload verified batches anew that have lost or doubled rows since.",
        ),
    }
