"""Keep the storage libraries' own log lines from showing whose files were read."""

from __future__ import annotations

import logging

LOGGERS = ("fsspec", "s3fs", "aiobotocore", "botocore", "boto3", "s3transfer", "gcsfs", "adlfs", "azure")
"""They, or loggers below them, write the path of each file: user ids, batch ids, file names."""


def hide_paths() -> None:
    """Let these libraries log warnings and errors only.

    One whose level somebody has set is left as it is.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
