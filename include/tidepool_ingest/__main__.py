"""``python -m tidepool_ingest`` is the command line."""

from __future__ import annotations

import sys

from tidepool_ingest.cli import main

sys.exit(main())
