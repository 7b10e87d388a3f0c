"""What keeps people from using a page: axe-core (a file that is named, or npm's), widths and themes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.integration.browser.stack import shoot

VARIABLE = "TIDEPOOL_AXE"
"""Environment variable with the path of ``axe.min.js``, where npm cannot install it."""

VERSION = "4.11.0"
INSTALL_SECONDS = 300
GRAVE = ("serious", "critical")
WIDTHS = (1400, 800, 390)


CUT_OFF = """() => [...document.querySelectorAll(".wide:has(.uploads)")].filter(
  (wide) => wide.scrollWidth > wide.clientWidth).length"""
"""How many lists have columns that are to be scrolled to."""


def axe_script() -> str:
    """Return axe-core's script; the test is skipped where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / f"tidepool-axe-{VERSION}"
    named = os.environ.get(VARIABLE)
    script = Path(named) if named else folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file() and not named:
        _install(folder)
    if not script.is_file():
        pytest.skip(f"no axe-core: npm cannot install it, and {VARIABLE} names no axe.min.js")
    return script.read_text()


def _install(folder: Path) -> None:
    if shutil.which("npm") is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"axe-core@{VERSION}"]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=INSTALL_SECONDS, check=False)


def grave_problems(page: Page, script: str) -> list[str]:
    """Return what axe-core finds serious or critical on a page: each rule with the first place.

    The page's own policy forbids scripts from elsewhere, and is bypassed for this one.
    """
    page.evaluate(script)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:120]}"
        for one in found["violations"]
        if one["impact"] in GRAVE
    ]


def look(page: Page, name: str) -> None:
    """Look at a page in both themes and at three widths: it fits, and axe-core finds nothing grave.

    :param name: what its screenshots are called, beside theme and width.
    """
    script = axe_script()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, (name, width)
            assert page.evaluate(CUT_OFF) == 0, (name, width)
            assert grave_problems(page, script) == [], (name, scheme, width)
            shoot(page, f"{name}-{scheme}-{width}")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
