"""``python -m tests.cli.upload_process …``: the command line in a process of its own, with short pauses."""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.worker import QUICK, TIMING
from tidepool_ingest.cli import main, upload_run
from tidepool_ingest.upload import UploadContext

SHORT: dict[tuple[Any, str], Any] = {
    (UploadContext, "default_timeouts"): TIMING,
    (upload_run, "PAUSE_SECONDS"): 0.1,
    (upload_run, "LOOKS_AGAIN_AFTER"): 0.1,
    (upload_run, "TURN_SECONDS"): TIMING.lease,
    (upload_run, "PROLONGED_EVERY"): 0.3,
}

if __name__ == "__main__":
    for (where, name), value in (QUICK | SHORT).items():
        if not hasattr(where, name):
            raise AttributeError(f"there is no {name} any more: correct SHORT")
        setattr(where, name, value)
    sys.exit(main())
