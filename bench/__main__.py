"""The benchmarks: ``make bench``, or ``python -m bench`` at the top of the checkout."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path

from bench.converting import measure_converting, measure_splitting
from bench.giant import HEADINGS as GIANT_HEADINGS
from bench.giant import measure_giant
from bench.ledger import HEADINGS as LEDGER_HEADINGS
from bench.ledger import measure_ledger
from bench.packs import HEADINGS as PACK_HEADINGS
from bench.packs import ONE_CHUNK_HEADINGS, measure_one_chunk, measure_packs
from bench.preparing import measure_preparing
from bench.records import uploader_lines
from bench.result import print_results, print_rows
from bench.sending import HEADINGS, measure_read_back, measure_sending
from bench.silence import HEADINGS as SILENCE_HEADINGS
from bench.silence import measure_silence
from bench.starting import HEADINGS as START_HEADINGS
from bench.starting import measure_starts, measure_whole_validate
from bench.uploads_page import HEADINGS as VISIT_HEADINGS
from bench.uploads_page import measure_uploads_page
from bench.validation import measure_validation


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure validation, preparation and conversion beside json.loads (CPU time, best of "
        "several rounds), sending in parallel beside one after the other, sending and reading back, a giant "
        "batch in parts, packs of small batches, finding inactive devices, the uploads page's queries, plans "
        "with a large ledger, and the start of commands.",
    )
    parser.add_argument("file", nargs="?", type=Path, help="gzipped NDJSON of one device (default: made up)")
    parser.add_argument("--quick", action="store_true", help="leave out files of millions of records")
    parser.add_argument("--only", choices=list(_MEASURES), help="measure only this")
    options = parser.parse_args()
    lines = cache(lambda: uploader_lines(options.file))
    for name, measure in _MEASURES.items():
        if options.only in (None, name):
            measure(lines, options.quick)


def _start(lines: Callable[[], list[bytes]], _quick: bool) -> None:
    print_rows(START_HEADINGS, measure_starts(lines()))
    print()
    print_results(list(measure_whole_validate(lines())))


def _prepare(lines: Callable[[], list[bytes]], quick: bool) -> None:
    print_results([*measure_validation(lines()), *measure_preparing(lines(), memory=not quick)])


_MEASURES: dict[str, Callable[[Callable[[], list[bytes]], bool], None]] = {
    "page": lambda lines, quick: print_rows(VISIT_HEADINGS, measure_uploads_page()),
    "ledger": lambda lines, quick: print_rows(LEDGER_HEADINGS, list(measure_ledger())),
    "packs": lambda lines, quick: print_rows(PACK_HEADINGS, measure_packs()),
    "one-chunk": lambda lines, quick: print_rows(ONE_CHUNK_HEADINGS, measure_one_chunk()),
    "prepare": _prepare,
    "start": _start,
    "convert": lambda lines, quick: print_results(list(measure_converting(memory=not quick))),
    "split": lambda lines, quick: print_results(list(measure_splitting(memory=not quick))),
    "send": lambda lines, quick: print_rows(HEADINGS, measure_sending(lines())),
    "read-back": lambda lines, quick: print_results(measure_read_back(lines())),
    "giant": lambda lines, quick: print_rows(GIANT_HEADINGS, list(measure_giant(lines(), quick=quick))),
    "silence": lambda lines, quick: print_rows(SILENCE_HEADINGS, measure_silence()),
}
"""What is measured, in this order: of the uploader's records, loaded when first asked for, or of others."""


if __name__ == "__main__":
    main()
