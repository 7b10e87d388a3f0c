"""The Platform's verdict on each record, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator

from tidepool_ingest.model import (
    JSON_MALFORMED,
    STAGED_NOT_JSON,
    STAGED_NOT_UTF8,
    Judged,
    Problem,
    judge_lines,
)
from tidepool_ingest.staging.block import EMPTY_ELEMENT, Block

_MALFORMED = (Problem(JSON_MALFORMED, ""),)


def print_verdicts(blocks: Iterable[Block]) -> int:
    """Print one line a record: ``{"index","accepted","errors":[{"code","pointer"}]}``.

    Pointers are printed in full. A record too large to be held (``staged-too-large``) is the only one that
    gets a code of our own: the Platform's verdict on it is not known.

    :param blocks: the records in order.
    :return: how many are refused.
    """
    index = refused = 0
    for block in blocks:
        lines = []
        for problems in _verdicts(block):
            if problems:
                refused += 1
                errors = json.dumps([problem._asdict() for problem in problems], separators=(",", ":"))
                lines.append(f'{{"index":{index},"accepted":false,"errors":{errors}}}\n')
            else:
                lines.append(f'{{"index":{index},"accepted":true,"errors":[]}}\n')
            index += 1
        sys.stdout.write("".join(lines))
    return refused


def _verdicts(block: Block) -> Iterator[tuple[Problem, ...]]:
    for line, judged in zip(block.lines, judge_lines(block.lines), strict=True):
        yield _as_platform(line, judged) if judged.problems else judged.problems
    for _position, code in block.refused:
        yield _MALFORMED if code == EMPTY_ELEMENT else (Problem(code, ""),)


def _as_platform(line: bytes, judged: Judged) -> tuple[Problem, ...]:
    """Return the Platform's verdict on a line that may have one of our own codes."""
    codes = {code for code, _pointer in judged.problems}
    if STAGED_NOT_UTF8 in codes:
        # The Platform reads U+FFFD in place of each bad byte.
        read = line.decode(errors="replace").encode()
        return _as_platform(read, judge_lines([read])[0])
    return _MALFORMED if STAGED_NOT_JSON in codes else judged.problems
