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


def root_of_batch(folder: str, otherwise: str | None = None) -> UPath:
    """Return the staging root that a batch was prepared in: a run may have been given another one.

    :param folder: where the batch was staged, as the ledger keeps it.
    :param otherwise: the root to take if this machine has no such folder, because storage is mounted
        elsewhere here; the deployment's own if not given.
    """
    root = folder.rsplit("/", 3)[0]
    return staging_root(root if "://" in root or Path(root).is_dir() else otherwise)


def _default_root() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "staging"
