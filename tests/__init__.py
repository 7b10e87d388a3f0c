from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[1]
"""The checkout."""

SHARED = PROJECT.parent / "shared"
"""The folder of recorded cases beside the checkout, which not everybody has."""
