"""What the page's routes receive with a request: the ledger, a batch, and what its list is filtered by."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, status
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tidepool_airflow.settings import ledger_address
from tidepool_ingest.ledger import BatchState, Ledger, Upload, UploadFilter
from tidepool_ingest.texts import problem_of


def current_ledger() -> Ledger:
    """Return the ledger that the connection ``tidepool_ledger`` names now.

    :raises LedgerConfigurationError: if its address cannot be used.
    :raises LedgerUnavailableError: if it does not answer.
    """
    return _opened(ledger_address())


@lru_cache(maxsize=2)
def _opened(address: str) -> Ledger:
    ledger = Ledger(address)
    ledger.migrate()
    return ledger


CurrentLedger = Annotated[Ledger, Depends(current_ledger)]
Batch = Annotated[int, Path(ge=1, le=2**62)]


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _that_can_be_kept(text: str) -> str:
    """Refuse what no row can hold, and PostgreSQL does not even look for."""
    if problem := problem_of(text):
        raise ValueError(f"it holds {problem}")
    return text


EMPTY_IS_NONE = BeforeValidator(_none_if_empty)
Text = Annotated[
    Annotated[str, Field(max_length=250), AfterValidator(_that_can_be_kept)] | None, EMPTY_IS_NONE
]
Number = Annotated[Annotated[int, Field(ge=1, le=2**62)] | None, EMPTY_IS_NONE]


NO_DEVICE = "none"
"""In a link, in place of a device's short hash: batches of which no device is known."""

Hash = Annotated[Annotated[str, Field(pattern="^[0-9a-f]{10}$")] | None, EMPTY_IS_NONE]


class ListQuery(BaseModel):
    """What the list's form filters by; an empty field does not matter."""

    model_config = ConfigDict(extra="ignore")

    state: Annotated[BatchState | None, EMPTY_IS_NONE] = None
    first_day: Annotated[date | None, EMPTY_IS_NONE] = None
    last_day: Annotated[date | None, EMPTY_IS_NONE] = None
    label: Text = None
    dag: Text = None
    type: Text = None
    waiting: bool = False
    decided: bool = False
    person: Hash = None
    device: Annotated[
        Annotated[str, Field(pattern=f"^([0-9a-f]{{10}}|{NO_DEVICE})$")] | None, EMPTY_IS_NONE
    ] = None
    before: Number = None
    after: Number = None

    def filter(self) -> UploadFilter:
        """Return it as the ledger takes it."""
        return UploadFilter(
            state=self.state,
            first_day=self.first_day,
            last_day=self.last_day,
            label=self.label.strip() if self.label else None,
            dag_id=self.dag,
            data_set_type=self.type,
            waiting=self.waiting,
            decided=self.decided,
            person=self.person,
            device="" if self.device == NO_DEVICE else self.device,
        )

    def link(self, **changed: Any) -> dict[str, str]:
        """Return it as the query of a link, with some fields changed."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"before", "after"}) | changed
        return {name: str(value) for name, value in values.items() if value not in (None, False, "")}


def requested_upload(ledger: Ledger, batch: int) -> Upload:
    """Return an upload.

    :raises HTTPException: 404 if there is none of this number.
    """
    upload = ledger.uploads.get(batch)
    if upload is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "The ledger has no upload with this number.")
    return upload
