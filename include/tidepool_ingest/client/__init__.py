"""How to speak to Tidepool: environments, tokens, errors and the client.

Arrows run downwards only: ``client`` → ``auth`` → ``settings``, ``tokens`` and ``transport`` →
``responses`` → ``errors``.
"""

from tidepool_ingest.client.backoff import BackOff
from tidepool_ingest.client.client import DataSet, TidepoolClient, connect
from tidepool_ingest.client.environments import ENVIRONMENTS, Environment, environment, host_of
from tidepool_ingest.client.errors import (
    Problem,
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolConfigurationError,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolPermissionError,
    TidepoolRejectedError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.settings import ClientSettings
from tidepool_ingest.client.tokens import (
    FixedToken,
    MemoryRefreshTokenStore,
    RefreshTokenStore,
    TokenSource,
)

__all__ = [
    "ENVIRONMENTS",
    "BackOff",
    "ClientSettings",
    "DataSet",
    "Environment",
    "FixedToken",
    "MemoryRefreshTokenStore",
    "Problem",
    "RefreshTokenStore",
    "TidepoolAuthenticationError",
    "TidepoolBusyError",
    "TidepoolClient",
    "TidepoolConfigurationError",
    "TidepoolDataSetClosedError",
    "TidepoolError",
    "TidepoolNotFoundError",
    "TidepoolPermissionError",
    "TidepoolRejectedError",
    "TidepoolUnexpectedAnswerError",
    "TidepoolUnreachableError",
    "TokenSource",
    "connect",
    "environment",
    "host_of",
]
