from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[1]
"""The checkout."""

SHARED = (PROJECT.parent / "shared").resolve()
"""The folder of recorded cases beside the checkout, or what a link there leads to; not everybody has it."""
