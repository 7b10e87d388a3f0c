"""What a data set is opened with: the manifest's body, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidepool_ingest.model.deduplicators import Deduplicator, deduplicator_named
from tidepool_ingest.staging.manifest import default_deduplicator
from tidepool_ingest.tidepool import ClientSettings

CONTINUOUS_SUFFIX = ".continuous"
"""Follows the connection's client name in continuous data sets that name no client of their own."""


def data_set_body(body: Mapping[str, Any], settings: ClientSettings) -> dict[str, Any]:
    """Fill in the client and the deduplicator where a body does not name them.

    The deduplicator is always named: without a name the Platform knows one for a few devices only, and
    answers 500 for all others, leaving a data set behind that nothing can find.

    :param body: what the manifest, or the caller, says of device and client.
    :param settings: the connection's client name and version.
    """
    data_set_type = body.get("dataSetType") or "normal"
    name = settings.client_name
    if name is not None and data_set_type == "continuous":
        # Tidepool finds a continuous data set by this name: a normal one must not be found by it.
        name += CONTINUOUS_SUFFIX
    client = {"name": name, "version": settings.client_version, **(body.get("client") or {})}
    named = {key: value for key, value in client.items() if value is not None}
    deduplicator = body.get("deduplicator") or {"name": default_deduplicator(data_set_type)}
    return {
        "dataSetType": data_set_type,
        **body,
        "deduplicator": deduplicator,
        **({"client": named} if named else {}),
    }


def deduplicator_of(body: Mapping[str, Any]) -> Deduplicator:
    """Return the rules of the deduplicator that a filled-in body names.

    :raises ValueError: for one that the Platform does not know.
    """
    known = deduplicator_named(str(body["deduplicator"]["name"]))
    if known is None:
        raise ValueError("The data set names a deduplicator that Tidepool does not know.")
    return known
