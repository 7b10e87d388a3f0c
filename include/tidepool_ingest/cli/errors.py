"""What is wrong with a command as it was given."""

from __future__ import annotations

from tidepool_ingest.errors import IngestError


class CommandError(IngestError):
    """A command cannot be carried out with the arguments it was given.

    :param what: what happened, one sentence.
    :param remedy: what to do about it, one sentence.
    :param code: short stable name of the cause.
    """

    def __init__(self, what: str, remedy: str, code: str = "arguments") -> None:
        super().__init__(what, remedy=remedy, code=code)
