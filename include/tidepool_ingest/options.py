"""The run parameters of the DAGs, each declared once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tidepool_ingest.errors import IngestError
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.rejection_limit import MAX_QUARANTINED_PERCENT, QUARANTINED_FROM, RejectionLimit

CHUNK_RECORDS = 1_000
"""Records per request. Source: Tidepool's documentation asks for chunks of 1,000."""

CHUNK_BYTES = 1_000_000
"""Bytes per request, so that one stays far from the gateway's 60 s. Source: what Loop aims for."""

PART_RECORDS = 200_000
"""Rows per data set of a normal batch: its close and read-back stay far from the gateway's 60 s."""
PART_RECORDS_MAX = 250_000
"""Tidepool cannot close a data set with more than about 296,000 different hashes: its database lists them in
one answer of at most 16 MB."""

LOOK_BACK_DAYS = 7
"""Day folders before a run's own that it also looks into, for data that arrived late."""

OLDER_THAN_MINUTES = 60
"""How long a batch may show no progress before maintenance resumes it: longer than any upload pauses."""

CHECK_BATCHES = 20
"""Verified batches that one maintenance run reverifies."""

CHECK_AFTER_DAYS = 7
"""How long a verified batch is left alone before it is reverified."""

WORK_DAYS = 30
"""How long accepted records are kept after their batch is done: somebody may want to inspect them."""

QUARANTINE_DAYS = 365
"""How long rejected records are kept after their batch is done: somebody has to find time to correct them."""

MAX_KEEP_DAYS = 36_500
"""Longest that records may be told to stay, a century; for ever is 0."""

BATCHES_ALONE = 100
"""Batches up to which each has a task of its own, with its own label, log and retries."""

BATCHES_A_PACK = 250
"""Batches per pack, at most; a few more where those of a device would be parted."""

CONFIRMING = ("force", "allow_doubling", "allow_truncate", "allow_older")
"""Parameters that confirm that repeating, doubling, deleting or an older value is intended."""


class WhenRefused(StrEnum):
    """What happens to a batch with too many rejected records."""

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


MAIN = "Run Parameters"
"""Airflow's own name of the section that its form opens by itself: what most people want to choose."""

WHERE = "Where to look"
CARE = "With care"
SPEED = "How fast"

CHUNK_SIZES = (CHUNK_RECORDS, 500, 250, 100, 50, 10, 1)
"""Records per request that the form offers."""


def _of_form(section: str, **form: Any) -> dict[str, Any]:
    """Return what a form adds to a parameter: its section, and how it shows a choice."""
    return {"section": section, **form}


class Options(BaseModel):
    """What all kinds of parameters share: strict about names, and errors that name them.

    Each field declares its parameter once, in the order of the form: default, bounds, title, description, and
    the section of the form. The check, the form and the documentation follow from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of_params(cls, params: dict[str, Any]) -> Self:
        """Check a run's parameters.

        :param params: parameter names and values as Airflow passes them; empty ones are left out.
        :raises OptionsError: a parameter is wrong or unknown; the message names it and the valid ones.
        """
        given = {name: value for name, value in params.items() if value not in (None, "", [])}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise _options_error(cls, error) from None


def _user(text: str) -> str:
    if not is_user_id(text):
        raise PydanticCustomError(
            "user", "one of them is neither a short hash as logs show it, nor a Tidepool user id"
        )
    return text


_User = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_user)]


class RunOptions(Options):
    """Parameters of one upload run."""

    first_day: date | None = Field(
        default=None,
        title="First day",
        description="Oldest day folder to take. Without any day: recent batches that are ready and not done.",
        json_schema_extra=_of_form(MAIN),
    )
    last_day: date | None = Field(
        default=None,
        title="Last day",
        description="Newest day folder to take. With one of the two days, only that one is taken.",
        json_schema_extra=_of_form(MAIN),
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Only look: every record is validated, and nothing is opened at Tidepool. The log of the "
        "task report shows what would be sent, rejected and archived.",
        json_schema_extra=_of_form(MAIN),
    )
    users: tuple[_User, ...] = Field(
        default=(),
        title="Only these people",
        description="Short hashes that logs show, or Tidepool user ids, one a line. Empty for everybody. "
        "Airflow shows what you write here to everybody who can see the run.",
        json_schema_extra=_of_form(MAIN),
    )
    look_back_days: int = Field(
        default=LOOK_BACK_DAYS,
        ge=0,
        le=3660,
        title="Days to look back",
        description="Without explicit days: how many earlier day folders to look into for late arrivals.",
        json_schema_extra=_of_form(WHERE),
    )
    batches: tuple[Annotated[int, Field(ge=1, le=2**62)], ...] = Field(
        default=(),
        title="Only these uploads",
        description="Numbers of uploads, which end their pages' addresses, as a list: `[12, 15]`. The run "
        "takes these and nothing else, whatever days and people it names, and whatever a person has decided "
        "about them.",
        json_schema_extra=_of_form(WHERE),
    )
    staging_root: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        title="Staging root",
        description="Folder or URL with the day folders, if not the deployment's own.",
        json_schema_extra=_of_form(WHERE),
    )
    force: bool = Field(
        default=False,
        title="Upload again",
        description="Also take batches that are done. The usual deduplicator archives the older copies.",
        json_schema_extra=_of_form(CARE),
    )
    allow_doubling: bool = Field(
        default=False,
        title="Twice is meant",
        description="Upload again also where nothing is archived, so that the records are there twice.",
        json_schema_extra=_of_form(CARE),
    )
    allow_truncate: bool = Field(
        default=False,
        title="Delete all else of the device",
        description="Take batches whose deduplicator deletes everything else of the device for good.",
        json_schema_extra=_of_form(CARE),
    )
    allow_older: bool = Field(
        default=False,
        title="Older content may win",
        description="Also upload batches staged before something that is verified of their device.",
        json_schema_extra=_of_form(CARE),
    )
    max_quarantined_percent: float = Field(
        default=MAX_QUARANTINED_PERCENT,
        ge=0,
        le=100,
        title="Rejected records allowed (%)",
        description="A batch with a larger share of rejected records stops before anything is sent.",
        json_schema_extra=_of_form(CARE),
    )
    quarantined_from: int = Field(
        default=QUARANTINED_FROM,
        ge=0,
        le=1_000_000,
        title="Share counts from (rejected records)",
        description="A batch with fewer rejected records is uploaded whatever their share, unless nothing of "
        "it is accepted.",
        json_schema_extra=_of_form(CARE),
    )
    when_refused: WhenRefused = Field(
        default=WhenRefused.FAIL,
        title="When too many are rejected",
        description="Who is asked sees the counts, and decides whether the accepted records are uploaded.",
        json_schema_extra=_of_form(
            CARE,
            values_display={
                WhenRefused.FAIL.value: "Fail: the batch stays held, the others go on",
                WhenRefused.ASK.value: "Ask a person, and wait for the answer",
            },
        ),
    )
    chunk_records: int = Field(
        default=CHUNK_RECORDS,
        ge=1,
        le=CHUNK_RECORDS,
        title="Records a request",
        description="Fewer only help where requests are too large.",
        json_schema_extra=_of_form(
            SPEED,
            enum=list(CHUNK_SIZES),
            values_display={str(CHUNK_RECORDS): f"{CHUNK_RECORDS:,}, as Tidepool asks for"},
        ),
    )
    part_records: int = Field(
        default=PART_RECORDS,
        ge=1,
        le=PART_RECORDS_MAX,
        title="Records a data set",
        description="A batch of more, embedded data included, is split into parts, each with a data set of "
        "its own, so that closing and reading back stay within the gateway's time.",
        json_schema_extra=_of_form(SPEED),
    )
    parallel_chunks: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        title="Requests at the same time",
        description="Of one data set. A run can only lower what the deployment allows.",
        json_schema_extra=_of_form(SPEED),
    )

    @property
    def rejection_limit(self) -> RejectionLimit:
        """How many of a batch's records may be rejected."""
        return RejectionLimit(self.max_quarantined_percent, self.quarantined_from)

    @property
    def asks(self) -> bool:
        """Whether a person is asked; a dry run only reports."""
        return self.when_refused is WhenRefused.ASK and not self.dry_run

    def chunks_at_once(self, allowed: int) -> int:
        """Return how many chunks of one data set may be in progress at the same time.

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


class ActionOptions(Options):
    """The parameter of a run that carries out an action from the uploads page."""

    action: int = Field(
        default=0,
        ge=0,
        title="Number of the action",
        description="The uploads page fills it in and starts the run: nothing is done that was not asked for "
        "there.",
        json_schema_extra=_of_form(MAIN),
    )


class ReconcileOptions(Options):
    """Parameters of one maintenance run."""

    older_than_minutes: int = Field(
        default=OLDER_THAN_MINUTES,
        ge=0,
        le=525_600,
        title="Minutes without progress",
        description="An upload counts as unfinished if the ledger has recorded nothing about it for so long.",
        json_schema_extra=_of_form(MAIN),
    )
    check_batches: int = Field(
        default=CHECK_BATCHES,
        ge=0,
        le=1_000,
        title="Verified batches to reverify",
        description="So many at most; first what shares days with an upload that was deleted since, then "
        "what was not verified for longest; 0 for none.",
        json_schema_extra=_of_form(MAIN),
    )
    check_after_days: int = Field(
        default=CHECK_AFTER_DAYS,
        ge=0,
        le=3_660,
        title="Days between two verifications",
        description="A verified batch is due again so many days after it was last verified.",
        json_schema_extra=_of_form(MAIN),
    )
    staging_root: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        title="Staging root",
        description="Folder or URL with the work areas, if not the deployment's own.",
        json_schema_extra=_of_form(WHERE),
    )
    repair: bool = Field(
        default=True,
        title="Repair what was verified",
        description="Upload verified batches again if they have lost or doubled rows.",
        json_schema_extra=_of_form(CARE),
    )


def _options_error(options: type[Options], error: ValidationError) -> OptionsError:
    # The values are left out: somebody may have put a token into the wrong field.
    valid = ", ".join(sorted(options.model_fields))
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    unknown = sorted({str(problem["loc"][0]) for problem in problems if problem["type"] == "extra_forbidden"})
    if unknown:
        named = ", ".join(
            name if name.isidentifier() and len(name) <= 40 else "(unreadable name)" for name in unknown
        )
        return OptionsError(
            f"This run has parameters that do not exist: {named}.", f"The valid ones are: {valid}."
        )
    wrong = {str(problem["loc"][0]) if problem["loc"] else "days": problem["msg"] for problem in problems}
    named = "; ".join(f"{name}: {message}" for name, message in wrong.items())
    return OptionsError(
        f"This run has parameters that cannot be used: {named}.", "Correct them and trigger again.", wrong
    )
