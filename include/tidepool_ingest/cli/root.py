"""How commands find the staging root."""

from __future__ import annotations

import argparse
import os

ROOT_VARIABLE = "TIDEPOOL_STAGING_ROOT"
"""Environment variable with the staging root, the same that the DAGs read."""


def add_root(command: argparse.ArgumentParser) -> None:
    """Add the option that says where the day folders are; needed where the variable is not set."""
    root = os.environ.get(ROOT_VARIABLE) or None
    command.add_argument(
        "--root",
        default=root,
        required=root is None,
        help=f"staging root, a path or fsspec URL (default: ${ROOT_VARIABLE})",
    )
