"""The trigger form of the upload DAG."""

from __future__ import annotations

from airflow.sdk import Param

from tidepool_ingest.options import CHUNK_RECORDS, LOOK_BACK_DAYS, MAX_QUARANTINED_PERCENT

WHICH = "Which data"
HOW = "How"


def upload_params() -> dict[str, Param]:
    """Return the parameters of an upload run; their defaults are what a daily run uses."""
    return {
        "first_day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="First day",
            section=WHICH,
            description="Oldest day folder to take. With either day set, exactly those days are taken.",
        ),
        "last_day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Last day",
            section=WHICH,
            description="Newest day folder to take. Leave both empty for everything ready and not done.",
        ),
        "look_back_days": Param(
            LOOK_BACK_DAYS,
            type="integer",
            minimum=0,
            maximum=3660,
            title="Days to look back",
            section=WHICH,
            description="Without explicit days: how many earlier day folders to look into for late arrivals.",
        ),
        "users": Param(
            [],
            type=["null", "array"],
            items={"type": "string"},
            title="Only these users",
            section=WHICH,
            description="Tidepool user ids, or the short hashes that logs show, one a line; empty for all.",
        ),
        "staging_root": Param(
            None,
            type=["null", "string"],
            title="Staging root",
            section=WHICH,
            description="Folder or URL with the day folders, if not the deployment's own.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            section=HOW,
            description="Validate and report only; nothing is opened at Tidepool.",
        ),
        "force": Param(
            False,
            type="boolean",
            title="Upload again",
            section=HOW,
            description="Also take batches that are done. The deduplicator then archives the older copies.",
        ),
        "max_quarantined_percent": Param(
            MAX_QUARANTINED_PERCENT,
            type="number",
            minimum=0,
            maximum=100,
            title="Refused records allowed (%)",
            section=HOW,
            description="A batch with a larger share of refused records stops before anything is sent.",
        ),
        "chunk_records": Param(
            CHUNK_RECORDS,
            type="integer",
            minimum=1,
            maximum=CHUNK_RECORDS,
            title="Records a request",
            section=HOW,
            description="Tidepool asks for chunks of 1,000.",
        ),
        "parallel_chunks": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Requests at the same time",
            section=HOW,
            description="Of one data set. Empty for what the deployment allows; a run can only lower it.",
        ),
    }
