"""The staging root behind an Airflow connection."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from airflow.sdk import ObjectStoragePath
from upath import UPath

ROOT_VARIABLE = "TIDEPOOL_STAGING_ROOT"
"""Environment variable with the staging root of a deployment."""


def staging_root(address: str | None = None) -> UPath:
    """Return the folder in which the day folders lie.

    :param address: a path, or an fsspec URL, optionally with an Airflow connection in it, as in
        ``s3://my_aws_connection@bucket/tidepool``. Without one: the environment variable
        ``TIDEPOOL_STAGING_ROOT``, or else ``staging`` in Airflow's own folder.
    """
    address = address or os.environ.get(ROOT_VARIABLE) or str(_default_root())
    if "://" not in address:
        return UPath(Path(address).expanduser().absolute())
    # It stands for a UPath in all it does, but its class is not derived from it.
    return cast("UPath", ObjectStoragePath(address))


def _default_root() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "staging"
