"""What became of a batch's records, in numbers only, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from tidepool_ingest.codes import explained
from tidepool_ingest.formats.tidepool_export.platform_fields import PLATFORM_FIELDS
from tidepool_ingest.guards import Decision, QuarantineLimitError
from tidepool_ingest.ledger import Rejection
from tidepool_ingest.model import masked_pointer
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_ingest.staging.work_area import PreparedBatch
from tidepool_ingest.texts import counted

REASONS_ASKED_ABOUT = 30
"""How many kinds of rejection are shown to a person who has to decide."""

REASONS_NAMED = 8
"""How many kinds of rejection a message names."""


class PrepareSummary(BaseModel):
    """What became of a batch's records, in numbers only.

    :param batch: the batch's label.
    :param staged: records found in its files.
    :param skipped: rows that are not readings and gave no record, by reason.
    :param accepted: records that Tidepool will store.
    :param inside: accepted records that are sent inside another one, which an export had linked to them.
    :param quarantined: records rejected, each in the quarantine file with its reason.
    :param identical: duplicates of an accepted record, kept once, and replaced ones.
    :param replaced: records of a feed of which the batch holds a later version, by type.
    :param deletes: records of a feed that the batch deletes.
    :param retracts: records of the batch of the feed that it retracts; ``None`` if it retracts none.
    :param expected_rows: rows that Tidepool makes of the accepted records.
    :param chunks: requests they are sent in.
    :param accepted_by_type: accepted records by type.
    :param reasons: rejections by type and code.
    :param warnings: accepted records that are reported, by type and code.
    :param edits: records edited, by field of Tidepool; ``*`` for all others.
    :param asks: whether too many are rejected, so that a person has to decide.
    """

    model_config = ConfigDict(frozen=True)

    batch: str
    staged: int
    accepted: int
    inside: int
    quarantined: int
    identical: int
    replaced: dict[str, int]
    deletes: int
    expected_rows: int
    chunks: int
    accepted_by_type: dict[str, int]
    reasons: dict[str, dict[str, int]]
    warnings: dict[str, dict[str, int]]
    edits: dict[str, int]
    skipped: dict[str, int] = {}
    retracts: int | None = None
    asks: bool = False

    @property
    def rejected_share(self) -> str:
        """How many of its records are rejected, in words."""
        return f"{self.quarantined:,} of {self.staged:,} records"

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it is to be uploaded."""
        return self.accepted == self.deletes == 0 and self.retracts is None

    def exceeds(self, limit: RejectionLimit) -> bool:
        """Return whether more of its records are rejected than a limit allows."""
        return limit.is_exceeded(self.quarantined, staged=self.staged, accepted=self.accepted)

    def counts(self) -> dict[str, int]:
        """Return the numbers that can be summed over several batches."""
        summed = self.model_dump(
            include={"staged", "accepted", "quarantined", "identical", "expected_rows", "chunks"}
        )
        return {"batches": 1, **summed}

    def with_rejections(self, rejections: Iterable[Rejection]) -> PrepareSummary:
        """Return the same with some of the accepted records among the quarantined ones.

        :param rejections: records that Tidepool itself rejected in an earlier attempt.
        """
        accepted = Counter(self.accepted_by_type)
        reasons = {kind: Counter(codes) for kind, codes in self.reasons.items()}
        late, rows = 0, 0
        for rejection in rejections:
            late, rows = late + 1, rows + rejection.rows
            accepted[rejection.type] -= 1
            codes = {code for code, _pointer in rejection.problems}
            reasons.setdefault(rejection.type, Counter()).update(codes)
        changed = {
            "accepted": self.accepted - late,
            "quarantined": self.quarantined + late,
            "expected_rows": self.expected_rows - rows,
            "accepted_by_type": dict(+accepted),
            "reasons": {kind: dict(codes) for kind, codes in reasons.items()},
        }
        return self.model_copy(update=changed) if late else self


class TooManyRejectedError(QuarantineLimitError):
    """The share of rejected records exceeds what the run allows; nothing was opened.

    :param batch: how messages name the batch.
    :param summary: what became of its records.
    :param allowed: the share allowed, in percent.
    """

    def __init__(self, batch: str, summary: PrepareSummary, allowed: float) -> None:
        share = 100 * summary.quarantined / summary.staged
        super().__init__(
            f"Batch {batch} stops before anything is opened: {summary.quarantined} of {summary.staged} "
            f"records ({share:.1f} %) were rejected, more than the {allowed:g} % allowed: "
            f"{named_counts(summary.reasons)}."
        )
        self.particulars = summary.rejected_share
        self.batch = batch
        self.summary = summary


def summary_of(label: str, prepared: PreparedBatch) -> PrepareSummary:
    """Return a work area's counts under the batch's label."""
    return PrepareSummary(
        batch=label,
        staged=prepared.records,
        accepted=sum(prepared.accepted.values()),
        inside=prepared.inside,
        quarantined=prepared.quarantined,
        identical=prepared.identical + sum(prepared.replaced.values()),
        replaced=prepared.replaced,
        deletes=len(prepared.deletes),
        expected_rows=prepared.expected_rows,
        chunks=prepared.requests,
        accepted_by_type=prepared.accepted,
        reasons=prepared.reasons,
        warnings=prepared.warnings,
        edits=_by_shown_name(prepared.changes),
        skipped=prepared.skipped,
        retracts=prepared.retracts,
    )


def _by_shown_name(edits: Mapping[str, int]) -> dict[str, int]:
    """Return counts by field; names that are not Tidepool's count as one, because somebody made them up."""
    counts: Counter[str] = Counter()
    for field, records in edits.items():
        counts[".".join(map(_shown_name, field.split(".")))] += records
    return dict(counts)


def _shown_name(step: str) -> str:
    return step if step in PLATFORM_FIELDS else masked_pointer(step.replace("/", "~1"))


def question_of(summary: PrepareSummary, allowed: float) -> tuple[str, str]:
    """Return subject and body, in Markdown, of what a person is asked about a batch: numbers only.

    :param summary: what became of its records.
    :param allowed: the share of rejected records that the run allows, in percent.
    """
    share = 100 * summary.quarantined / summary.staged
    rows = [
        f"| {kind} | {code}: {explained(code).sentence} | {count} |"
        for count, kind, code in _most_frequent(summary.reasons)[:REASONS_ASKED_ABOUT]
    ]
    body = (
        f"{summary.quarantined} of {summary.staged} records ({share:.1f} %) are rejected, more than the "
        f"{allowed:g} % allowed. {summary.accepted} are accepted. Nothing is opened yet.",
        "",
        "| type | reason | records |",
        "|---|---|---|",
        *rows,
        "",
        f"- **{Decision.APPROVE.answer}**: the rejected ones stay in quarantine, and so do any that Tidepool "
        "itself rejects.",
        f"- **{Decision.GOOD_ONES.answer}**: the same, unless Tidepool itself rejects any of them.",
        f"- **{Decision.DECLINE.answer}**: it stays held, and the others continue.",
    )
    return subject_of(summary.batch, summary.quarantined), "\n".join(body)


def subject_of(batch: str, rejected: int) -> str:
    """Return the subject of what a person is asked about a batch, by which the question is found again.

    :param batch: the batch's label.
    :param rejected: how many of its records are rejected.
    """
    return f"{batch}: upload it without {rejected} rejected records?"


def named_counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the most frequent counts by type and code, for a message."""
    counted = _most_frequent(counts)
    text = ", ".join(f"{count} {kind} {code}" for count, kind, code in counted[:REASONS_NAMED])
    return text + (", …" if len(counted) > REASONS_NAMED else "")


def _most_frequent(counts: Mapping[str, Mapping[str, int]]) -> list[tuple[int, str, str]]:
    """Return counts by type and code, the most frequent first."""
    counted = [(count, kind, code) for kind, codes in counts.items() for code, count in codes.items()]
    return sorted(counted, reverse=True)


def described(summary: PrepareSummary) -> str:
    """Return a summary as one sentence, for a log line."""
    parts = [
        f"{counted(summary.staged, 'record')} staged",
        f"{summary.accepted} accepted in {counted(summary.chunks, 'chunk')}",
        f"{summary.quarantined} quarantined"
        + (f" ({named_counts(summary.reasons)})" if summary.reasons else ""),
    ]
    if summary.warnings:
        parts.append(f"accepted with a warning: {named_counts(summary.warnings)}")
    replaced = sum(summary.replaced.values())
    if summary.identical - replaced:
        parts.append(counted(summary.identical - replaced, "duplicate"))
    if replaced:
        parts.append(f"{replaced} replaced by a later version in the batch")
    if summary.deletes:
        parts.append(f"{summary.deletes} to delete")
    if summary.retracts is not None:
        parts.append(f"a batch of {counted(summary.retracts, 'record')} to retract")
    if summary.skipped:
        parts.append(
            "rows that are not readings: " + ", ".join(f"{k} {v}" for k, v in summary.skipped.items())
        )
    if summary.inside:
        parts.append(f"{summary.inside} of the accepted ones inside the record that linked to them")
    if summary.edits:
        parts.append("edited: " + ", ".join(f"{k} {v}" for k, v in summary.edits.items()))
    return ", ".join(parts)
