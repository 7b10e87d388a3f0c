"""Writes ``docs/codes.md``: ``python -m tests.codes.page``, with ``include`` and ``.`` on ``PYTHONPATH``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import ndiff

from tests import PROJECT
from tests.codes.reading import FRAMES, MAPPING
from tidepool_ingest.codes import PAGE
from tidepool_ingest.codes.explanation import DATA_SET, RECORD, VERDICT, Example, Explanation, Outcome
from tidepool_ingest.codes.left_out import LEFT_OUT
from tidepool_ingest.codes.platform import PLATFORM
from tidepool_ingest.codes.staged import STAGED

PATH = PROJECT / PAGE

BEGINNING = """\
# Codes of records and rows

What stands in a quarantine file, in the output of `validate`, `convert` and `stage`, in a run's report and on
the uploads page. Why a whole batch stops, or is held for what a file means, is in [errors.md](errors.md).

{index}

In each example, the line after `-` has the code, and the one after `+` is the same corrected. All are made
up, and tried by the tests. Angle brackets describe what is too long to be shown, or no text. This page is
written from `include/tidepool_ingest/codes/` (`python -m tests.codes.page`).

Rows of `clarity` and `libreview` stand below the header that such files have. Rows of `table` stand below
`{header}`, and are read by this mapping:

```json
{mapping}
```
"""

SECTIONS = (
    (
        "Tidepool's own",
        """\
The Platform's validators reject the record, or the `dataSet` of a manifest. A record that is wrong in several
fields has a code and a JSON pointer for each. The examples leave out `deviceId`, which the validators do not
need; the usual deduplicator does ([`staged-device-id-missing`](#staged-device-id-missing)).""",
        PLATFORM,
    ),
    (
        "Ours",
        """\
What Tidepool would fail at, drop or never show, and rows that cannot be read. They go to quarantine.""",
        {code: one for code, one in STAGED.items() if one.outcome is Outcome.REJECTED},
    ),
    (
        "Warnings",
        """\
The record is accepted and uploaded; the report counts it by type and code. Under
[`checks`](staging.md#checks-of-our-own), a manifest can turn those about devices, units and
times into rejections.""",
        {code: one for code, one in STAGED.items() if one.outcome is Outcome.WARNED},
    ),
    (
        "Rows that are no reading",
        "They give no record and are only counted. [formats.md](formats.md) has them by format.",
        LEFT_OUT,
    ),
)


def page() -> str:
    """Return the whole page."""
    mapping = (
        json.dumps(MAPPING)
        .replace('"records": [', '"records": [\n  ')
        .replace('}}, {"when"', '}},\n  {"when"')
    )
    index = "\n".join(f"- **{title}**: {_links(codes)}" for title, _about, codes in SECTIONS)
    header = FRAMES["table"].strip()
    sections = ("\n".join(_section(*section)) for section in SECTIONS)
    return "\n".join([BEGINNING.format(index=index, mapping=mapping, header=header), *sections])


def _links(codes: Mapping[str, Explanation]) -> str:
    return ", ".join(f"[`{code}`](#{code})" for code in sorted(codes))


def _section(title: str, about: str, codes: Mapping[str, Explanation]) -> Iterator[str]:
    yield f"## {title}\n\n{about}\n"
    for code, explanation in sorted(codes.items()):
        yield f"### {code}\n"
        yield f"{_said(explanation)}\n"
        if explanation.example:
            yield from _example(explanation.example)


def _said(explanation: Explanation) -> str:
    sentence = explanation.sentence
    pointer = explanation.field.replace("\0", "\\u0000")
    place = f" (here `{pointer}`)" if pointer else ""
    return f"{sentence[0].upper()}{sentence[1:]}{place}. {explanation.remedy}"


def _example(example: Example) -> Iterator[str]:
    if of := _kind(example):
        yield f"{of}:\n"
    if example.mended:
        changes = ndiff(example.found.splitlines(), example.mended.splitlines())
        yield "```diff\n" + "\n".join(line for line in changes if not line.startswith("?")) + "\n```\n"
    else:
        yield f"```text\n{example.found}\n```\n"


def _kind(example: Example) -> str:
    kinds = {RECORD: "", DATA_SET: "As `dataSet`", VERDICT: "With `validate --verdicts`"}
    of = kinds.get(example.kind, f"In `{example.kind}`")
    if not example.manifest:
        return of
    said = json.loads(f"{{{example.manifest}}}")
    says = json.dumps(said.get("file") or said)[1:-1]
    whose = "the manifest says of the file" if "file" in said else "the manifest says"
    return f"{of}, where {whose} `{says}`" if of else f"Where {whose} `{says}`"


if __name__ == "__main__":
    PATH.write_text(page())
