"""What a person may ask of one run: the parameters of the upload DAG, checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tidepool_ingest.errors import IngestError

CHUNK_RECORDS = 1_000
"""Records a request. Source: Tidepool's documentation asks for chunks of 1,000."""

CHUNK_BYTES = 1_000_000
"""Bytes a request, so that one stays far from the gateway's 60 s. Source: what Loop aims for."""

PART_RECORDS = 200_000
"""Records a data set of a normal batch, so that its close and read-back stay far from the gateway's 60 s."""

LOOK_BACK_DAYS = 7
"""Day folders before a run's own that it also looks into, for data that arrived late."""

MAX_QUARANTINED_PERCENT = 10.0
"""Share of refused records above which a batch is not uploaded until somebody has looked at it."""


OLDER_THAN_MINUTES = 60
"""How long a batch may be left before the maintenance job takes it up: longer than any upload is silent."""

CHECK_BATCHES = 20
"""Verified batches that one maintenance run looks at again."""

CHECK_AFTER_DAYS = 7
"""How long a verified batch is left alone between two looks."""


WORK_DAYS = 30
"""How long accepted records are kept after their batch is done: somebody may want to look again."""

QUARANTINE_DAYS = 365
"""How long refused records are kept after their batch is done: somebody has to find time to correct them."""

BATCHES_ALONE = 100
"""Batches up to which each has a task of its own, with its own label, log and retries."""

BATCHES_A_PACK = 50
"""Batches a pack, unless one device has more of them."""

CONFIRMING = ("force", "allow_doubling", "allow_truncate", "allow_older")
"""Parameters by which somebody says that repeating, doubling, deleting or an older value is meant."""


class WhenRefused(StrEnum):
    """What becomes of a batch of which too many records are refused."""

    FAIL = "fail"
    """Its task fails, and the batch stays held."""
    ASK = "ask"
    """A person decides."""


class OptionsError(IngestError):
    """A parameter of the run is unknown or has a value that cannot be used.

    :param wrong: what is wrong with which parameter; several of them together have the name ``days``.
    """

    code = "params"
    sentence = "a parameter of the run cannot be used"
    remedy = "Correct it and trigger again."

    def __init__(self, what: str, remedy: str, wrong: Mapping[str, str] | None = None) -> None:
        super().__init__(what, remedy=remedy)
        self.wrong = dict(wrong or {})


class _Options(BaseModel):
    """What all kinds of parameters share: strict about names, and errors that name them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of_params(cls, params: dict[str, Any]) -> Self:
        """Check a run's parameters.

        :param params: parameter names and values as Airflow hands them over; an empty one is left out.
        :raises OptionsError: naming the parameters that are wrong and the ones there are.
        """
        given = {name: value for name, value in params.items() if value not in (None, "", [])}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise _options_error(cls, error) from None


class RunOptions(_Options):
    """Parameters of one run.

    :param first_day: oldest day folder to take; with ``last_day`` empty, the only one.
    :param last_day: newest day folder to take; with ``first_day`` empty, the only one.
    :param look_back_days: how many earlier day folders to take without explicit days.
    :param staging_root: where the day folders lie: a path or an fsspec URL.
    :param users: Tidepool user ids, or the short hashes that logs show; empty for all.
    :param dry_run: validate and report, open nothing.
    :param force: also take batches that are done, and upload them again.
    :param allow_doubling: with ``force``, upload again also where the records will then be there twice.
    :param allow_truncate: upload under the deduplicator that deletes all else of the device.
    :param allow_older: upload a batch although a newer one of its device is verified, so that its values win.
    :param max_quarantined_percent: share of refused records above which a batch stops, 0 to 100.
    :param when_refused: what becomes of a batch above that share.
    :param chunk_records: records a request.
    :param part_records: records a data set; a normal batch of more is cut into parts.
    :param parallel_chunks: chunks of one data set on their way at the same time; can only lower what the
        deployment allows.
    """

    first_day: date | None = None
    last_day: date | None = None
    look_back_days: Annotated[int, Field(ge=0, le=3660)] = LOOK_BACK_DAYS
    staging_root: Annotated[str, Field(min_length=1)] | None = None
    users: tuple[Annotated[str, Field(min_length=1, max_length=36)], ...] = ()
    dry_run: bool = False
    force: bool = False
    allow_doubling: bool = False
    allow_truncate: bool = False
    allow_older: bool = False
    max_quarantined_percent: Annotated[float, Field(ge=0, le=100)] = MAX_QUARANTINED_PERCENT
    when_refused: WhenRefused = WhenRefused.FAIL
    chunk_records: Annotated[int, Field(ge=1, le=CHUNK_RECORDS)] = CHUNK_RECORDS
    part_records: Annotated[int, Field(ge=1, le=1_000_000)] = PART_RECORDS
    parallel_chunks: Annotated[int, Field(ge=1)] | None = None

    @property
    def asks(self) -> bool:
        """Tell whether a person is asked; a dry run only tells."""
        return self.when_refused is WhenRefused.ASK and not self.dry_run

    def chunks_at_once(self, allowed: int) -> int:
        """Return how many chunks of one data set may be on their way at the same time.

        :param allowed: what the deployment allows; its Airflow pool counts with that many.
        """
        return min(self.parallel_chunks or allowed, allowed)

    def confirmed(self) -> list[str]:
        """Return the parameters by which this run confirms something; see :data:`CONFIRMING`."""
        return [name for name in CONFIRMING if getattr(self, name)]

    @model_validator(mode="after")
    def _days_in_order(self) -> RunOptions:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise PydanticCustomError("days-order", "the last day lies before the first day: exchange them")
        return self


class ReconcileOptions(_Options):
    """Parameters of one maintenance run.

    :param staging_root: where the work areas lie: a path or an fsspec URL.
    :param older_than_minutes: what nothing was noted of for so long counts as left unfinished.
    :param check_batches: verified batches to look at again, at most.
    :param check_after_days: how long after its last look a batch is due again.
    :param repair: upload batches anew that have lost or doubled rows since they were verified.
    """

    staging_root: Annotated[str, Field(min_length=1)] | None = None
    older_than_minutes: Annotated[int, Field(ge=0, le=525_600)] = OLDER_THAN_MINUTES
    check_batches: Annotated[int, Field(ge=0, le=1_000)] = CHECK_BATCHES
    check_after_days: Annotated[int, Field(ge=0, le=3_660)] = CHECK_AFTER_DAYS
    repair: bool = True


def _options_error(options: type[_Options], error: ValidationError) -> OptionsError:
    # The values are left out: somebody may have put a token into the wrong field.
    valid = ", ".join(sorted(options.model_fields))
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    unknown = sorted({str(one["loc"][0]) for one in problems if one["type"] == "extra_forbidden"})
    if unknown:
        named = ", ".join(
            name if name.isidentifier() and len(name) <= 40 else "(unreadable name)" for name in unknown
        )
        return OptionsError(
            f"This run has parameters that do not exist: {named}.", f"The valid ones are: {valid}."
        )
    wrong = {str(one["loc"][0]) if one["loc"] else "days": one["msg"] for one in problems}
    named = "; ".join(f"{name}: {message}" for name, message in wrong.items())
    return OptionsError(
        f"This run has parameters that cannot be used: {named}.", "Correct them and trigger again.", wrong
    )
