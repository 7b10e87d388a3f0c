"""``python -m tidepool_simulator.sample NAME``: write a made-up file to standard output, to try things on.

python -m tidepool_simulator.sample clarity > export.csv
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from tidepool_simulator.sample.clarity_weeks import clarity_weeks
from tidepool_simulator.sample.tidepool_exports import api_export, web_export
from tidepool_simulator.sample.typed_tables import diary_workbook, study_table
from tidepool_simulator.sample.vendor_files import VendorFile, libreview_export, meter_table, nightscout_site

FILES: dict[str, Callable[[], VendorFile]] = {
    "clarity": clarity_weeks,
    "libreview": libreview_export,
    "nightscout-entries": lambda: nightscout_site()[0],
    "nightscout-treatments": lambda: nightscout_site()[1],
    "nightscout-profile": lambda: nightscout_site()[2],
    "table": meter_table,
    "parquet": study_table,
    "xlsx": diary_workbook,
    "tidepool-export": api_export,
    "tidepool-web-export": web_export,
}
"""The made-up files, by name."""

MAPPINGS = {f"{name}-mapping": FILES[name] for name in ("table", "parquet", "xlsx")}
"""The mappings of those that are tables."""


def content_of(name: str) -> bytes:
    """Return the bytes of a file, or of the mapping of a table, as ``--mapping`` takes it.

    :param name: one of :data:`FILES` or :data:`MAPPINGS`.
    """
    if name in MAPPINGS:
        return json.dumps(MAPPINGS[name]().options["table"], indent=2).encode() + b"\n"
    return FILES[name]().content


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one file to standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m tidepool_simulator.sample",
        description="Write a made-up file, as a vendor's program or Tidepool gives it, to standard output. "
        "Nobody's data: the people in it are invented.",
    )
    parser.add_argument(
        "name", choices=(*FILES, *MAPPINGS), metavar="NAME", help=", ".join((*FILES, *MAPPINGS))
    )
    sys.stdout.buffer.write(content_of(parser.parse_args(arguments).name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
