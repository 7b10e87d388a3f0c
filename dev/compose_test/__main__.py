"""``make compose-test``: start the stack, use it, disturb it, restore it, take it down; then a table.

It takes 20 minutes on two processors, more on a busy machine, and needs a container engine and 10 GB of disk.
Where no registry can be reached, it first makes small stand-ins for the base images, as root, by
``debootstrap``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from dev.compose_test.base_images import available, base_images
from dev.compose_test.engine import Engine
from dev.compose_test.stack import NAME, Stack
from dev.compose_test.walk import STEPS
from dev.home import PROJECT, LocalRunError
from dev.processes import STOP_SIGNALS
from tidepool_ingest.cli.arguments import table


def main() -> int:
    """Walk all steps; return 0 if all hold, 1 if one does not, 2 if something is in the way."""
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    folder = PROJECT / ".local" / "compose-test"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return run(folder)
    except LocalRunError as error:
        print(f"compose-test: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compose-test: stopped.", file=sys.stderr)
        return 2


def run(folder: Path) -> int:
    """Walk all steps in a folder, print what they came to, and leave nothing behind in the engine.

    :param folder: for settings, backups and logs.
    :raises LocalRunError: if something is in the way.
    """
    engine = Engine(folder / "engine.log")
    say(f"engine {engine.version}, Compose {engine.compose_version}, {engine.processors} processors")
    if engine.left_of(NAME):
        raise LocalRunError(
            f"There are containers, networks or volumes of {NAME}.",
            remedy=f"Remove them: docker compose --project-name {NAME} down --volumes",
            code="left-over",
        )
    stack = Stack(engine, folder)
    rows: list[tuple[object, ...]] = []
    began = time.monotonic()
    with available(engine, base_images(), folder, say) as images:
        rows.append(("base images", _seconds(began), "ok", images))
        try:
            held = walk(stack, rows)
        finally:
            # A walk that was stopped is no reason to leave something behind.
            with suppress(LocalRunError):
                (folder / "containers.log").write_text(stack.compose("logs", "--no-color"))
            with suppress(LocalRunError):
                stack.down()
            print(table(("step", "seconds", "", "note"), rows), flush=True)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    say(f"{'all holds' if held else 'something does not hold'}; {_seconds(began)} s, load average {load}")
    return 0 if held else 1


def walk(stack: Stack, rows: list[tuple[object, ...]]) -> bool:
    """Go step by step until one does not hold, and return whether all do.

    :param rows: where each step's row is added.
    """
    for step in STEPS:
        say(f"{step.title} …")
        began = time.monotonic()
        try:
            note = step.work(stack)
        except LocalRunError as error:
            rows.append((step.title, _seconds(began), "FAILED", str(error)))
            return False
        rows.append((step.title, _seconds(began), "ok", note))
    return True


def say(what: str) -> None:
    """Tell the terminal what goes on."""
    print(f"compose-test: {what}", flush=True)


def _seconds(began: float) -> str:
    return f"{time.monotonic() - began:.0f}"


def _stop(_number: int, _frame: object) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
