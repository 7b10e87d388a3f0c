"""Keep the network library's own log lines from showing whom a request was about."""

from __future__ import annotations

import logging

LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
"""They write path and query of each request: user ids, device ids."""


class _HidePaths(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.hosts: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        if any(host in str(each) for host in self.hosts for each in arguments):
            record.args = tuple(
                "/…" if isinstance(each, str) and "/" in each[:8] else each for each in arguments
            )
            record.exc_info = record.exc_text = None
        return True


_hide_paths = _HidePaths()


def hide_paths(host: str) -> None:
    """Leave path and query out of what the network library logs about a host; others are not touched.

    :param host: its name, without a port.
    """
    _hide_paths.hosts.add(host)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if _hide_paths not in logger.filters:
            logger.addFilter(_hide_paths)
