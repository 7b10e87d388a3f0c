"""What to type after an inspection: the next command, or what has to be decided first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tidepool_ingest.cli.terminal import BOLD, Sheet, printable
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.inspection.findings import Inspection
from tidepool_ingest.inspection.inspecting import RELEASABLE

ANY_ZONE: Final = "Area/City"
"""Stands in a command for a zone that nobody knows yet."""

DEVICE_ID: Final = "--device-id"

_FLAGS: Final = ("--keep-notes",)
"""Options without a value."""


@dataclass(frozen=True)
class Invocation:
    """What was typed, so that the next command can say it again.

    :param words: options for reading that were given, as they are typed; without the time zone.
    :param timezone: that option, or nothing.
    :param user: whose data they are, if that was said.
    :param has_root: whether the environment names the staging root.
    :param device_id: the option for it, where neither file nor each record names one.
    :param is_staged: whether batches were named, of which nothing has to be done.
    """

    words: tuple[str, ...] = ()
    timezone: tuple[str, ...] = ()
    user: str | None = None
    has_root: bool = False
    device_id: tuple[str, ...] = ()
    is_staged: bool = False


def show_next(group: Sequence[Inspection], sheet: Sheet, invocation: Invocation) -> None:
    """Write what to type next.

    :param group: the inspections of the same files.
    :param sheet: where it goes.
    :param invocation: what was typed.
    """
    steps = list(next_steps(group, invocation))
    if not steps:
        return
    sheet.heading("Next")
    for sentence, command in steps:
        if sentence:
            sheet.text(sentence, indent=2)
        if command:
            _show_command(command, sheet)


def next_steps(group: Sequence[Inspection], invocation: Invocation) -> Iterator[tuple[str, list[str]]]:
    """Yield what to do: a sentence, and the words of a command; each may be empty.

    :param group: the inspections of the same files.
    :param invocation: what was typed.
    """
    if invocation.is_staged:
        return
    found = group[0]
    zone = found.zone
    devices = [device for one in group for device in one.devices]
    if not devices or not all(device.fields.get("deviceId") for device in devices):
        invocation = replace(invocation, device_id=(DEVICE_ID, "ID"))
    if found.table is not None:
        yield from _with_draft(found, invocation)
    elif zone.needed and zone.stated is None and not is_broken(found):
        yield from _choose_zone(group, invocation)
    elif zone.verdict == "contradicted" and zone.candidates:
        words = ["--timezone", zone.candidates[0], *invocation.words]
        yield "Look at it in a zone that fits:", ["inspect", *files_of(found), *words]
    else:
        yield from _stage_it(group, invocation)


def files_of(found: Inspection) -> list[str]:
    """Return the names of the files as they were typed."""
    return [file.name for file in found.files]


def _with_draft(found: Inspection, invocation: Invocation) -> Iterator[tuple[str, list[str]]]:
    if found.table is None or found.table.draft is None:
        return
    zone = list(invocation.timezone) or (["--timezone", ANY_ZONE] if found.table.needs_zone else [])
    words = ["inspect", *files_of(found), "--mapping", "mapping.json", *zone]
    yield "Save the draft as mapping.json, correct it, and look at what it makes:", words


def _choose_zone(group: Sequence[Inspection], invocation: Invocation) -> Iterator[tuple[str, list[str]]]:
    """Yield what to do where somebody has to say the zone."""
    found = group[0]
    candidates = [*found.zone.candidates, ANY_ZONE]
    words = ["--timezone", candidates[0], *invocation.words]
    if len(found.zone.candidates) == 1 and not any(inspection.holds for inspection in group):
        sentence = f"If the device's clock was set to {printable(candidates[0])}:"
        yield sentence, _stage(files_of(found), words, invocation)
        return
    sentence = "Choose the zone that the device's clock was set to, for example:"
    if not found.zone.candidates:
        sentence = "Say the zone that the device's clock was set to, such as Europe/London:"
    yield sentence, ["inspect", *files_of(found), *words]


def _stage_it(group: Sequence[Inspection], invocation: Invocation) -> Iterator[tuple[str, list[str]]]:
    """Yield what to do where nothing has to be said any more."""
    found = group[0]
    given = [*invocation.timezone, *invocation.words]
    codes = dict.fromkeys(hold.code for inspection in group for hold in inspection.holds)
    if codes and not RELEASABLE.issuperset(codes):
        if not is_broken(found):
            yield "First mend what a run would stop at, above.", []
    elif codes:
        meant = [word for code in codes for word in ("--meant-as", code)]
        yield "If it is right as it is, say so:", _stage(files_of(found), [*given, *meant], invocation)
    elif not any(inspection.accepted for inspection in group):
        yield "Nothing in it would be taken: find out why first, above.", []
    elif not FORMATS[found.format].in_manifests:
        yield "", ["stage", *files_of(found), "--like", "BATCH"]
    else:
        is_whole = not any(inspection.rejected for inspection in group)
        sentence = "" if is_whole else "To stage it; what is rejected goes to quarantine, with its reason:"
        yield sentence, _stage(files_of(found), given, invocation)


def is_broken(found: Inspection) -> bool:
    """Return whether files cannot be read, whatever is said of them."""
    return not found.is_readable and not any(
        hold.code in RELEASABLE or hold.code == "timezone-missing" for hold in found.holds
    )


def _stage(files: Sequence[str], options: Sequence[str], invocation: Invocation) -> list[str]:
    root = [] if invocation.has_root else ["--root", "STAGING"]
    return ["stage", *files, *options, *invocation.device_id, *root, "--user", invocation.user or "USER_ID"]


def _show_command(words: Sequence[str], sheet: Sheet) -> None:
    """Write a command so that it can be copied: a line that is too long goes on after a backslash."""
    prompt = "  "
    pieces: list[str] = ["tidepool-ingest"]
    for word in words:
        # An option stays with its value.
        quoted = _typed(word)
        last = pieces[-1].split(" ")[0]
        if len(pieces) > 1 and last.startswith("--") and " " not in pieces[-1] and last not in _FLAGS:
            pieces[-1] = f"{pieces[-1]} {quoted}"
        else:
            pieces.append(quoted)
    line, lines = "", []
    for piece in pieces:
        joined = f"{line} {piece}" if line else piece
        if line and len(prompt) + len(joined) + 2 > sheet.terminal.width:
            lines.append(f"{line} \\")
            line = f"  {piece}"
        else:
            line = joined
    for text in [*lines, line]:
        sheet.raw(prompt + sheet.terminal.styled(sheet.terminal.encodable(text), BOLD))


def _typed(word: str) -> str:
    """Return a word as a shell takes it; with control characters, in the shell's own spelling of them."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(_escaped(sign) for sign in word)
    return f"$'{escaped}'"


def _escaped(sign: str) -> str:
    if sign in "'\\":
        return f"\\{sign}"
    if sign.isprintable():
        return sign
    return "".join(f"\\x{byte:02x}" for byte in sign.encode(errors="surrogateescape"))
