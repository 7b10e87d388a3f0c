"""One exported record, cleaned: its text without what Tidepool added, its labels and links put right."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tidepool_ingest.model import NotDecodableError, decode
from tidepool_ingest.prepare.export.links import LINK_FIELDS, Links, link_of
from tidepool_ingest.prepare.export.owned import RENAMED, is_owned
from tidepool_ingest.prepare.export.units import kind_of
from tidepool_ingest.prepare.seen import digest
from tidepool_ingest.staging.edits import Edits
from tidepool_ingest.staging.manifest import RecordEdits
from tidepool_ingest.staging.splice import Cut, Member, cut_member, members, spliced, with_member


class ExportCleaner:
    """Cleans exported records, one after the other.

    ``changes`` counts, for each field, the records in which it was changed; fields of an embedded datum are
    named by their path, such as ``bolus.id``.

    :param mislabelled: kinds of records whose mg/dL values are mmol/L in truth.
    :param links: what to embed; without it every link is dropped.
    """

    def __init__(self, mislabelled: frozenset[str] = frozenset(), links: Links | None = None) -> None:
        self._mislabelled = mislabelled
        self._links = links
        self._relabel = Edits(RecordEdits(glucose_units="mmol/L"))
        self._changes: Counter[str] = Counter()

    @property
    def changes(self) -> Counter[str]:
        """How many records were changed, by field."""
        return self._changes + self._relabel.changes

    def apply(self, line: bytes) -> bytes:
        """Return a record as a client would send it; what is no JSON object comes back unchanged.

        :param line: the text of a record, as exported.
        """
        try:
            datum = decode(line)
        except NotDecodableError:
            return line
        if not isinstance(datum, dict):
            return line
        kind = kind_of(datum)
        cleaned = self._cleaned(line, datum, LINK_FIELDS.get(kind), "")
        if kind in self._mislabelled and datum.get("units") is not None:
            cleaned = self._relabel.apply(cleaned)
        key = link_of(kind, datum)
        if key is None or self._links is None:
            return cleaned
        embedded = self._links.embedded_in(key, digest(cleaned))
        if embedded is None:
            return cleaned
        if key.field not in datum:  # otherwise it was counted when the link was taken out
            self._changes[key.field] += 1
        return with_member(cleaned, key.field, embedded)

    def _cleaned(self, line: bytes, datum: dict[str, Any], link_field: str | None, path: str) -> bytes:
        """Return an object without what Tidepool added and without a link, cleaning inside what it embeds."""
        found = members(line)
        if found is None:
            return line
        cuts: list[Cut] = []
        changed: set[str] = set()
        kept_before = False
        for index, member in enumerate(found):
            value = datum.get(member.name)
            if is_owned(member.name, value) or (member.name == link_field and isinstance(value, str)):
                cuts.append(cut_member(found, index, kept_before))
                changed.add(member.name)
                continue
            kept_before = True
            if member.name == link_field and isinstance(value, dict):
                inner = line[member.value_start : member.end]
                cuts.append(
                    Cut(
                        member.value_start,
                        member.end,
                        self._cleaned(inner, value, None, f"{path}{link_field}."),
                    )
                )
            elif member.name in RENAMED and RENAMED[member.name] not in datum:
                cuts.append(_renaming(member))
                changed.add(member.name)
        self._changes.update(path + name for name in changed)
        return spliced(line, cuts) if cuts else line


def _renaming(member: Member) -> Cut:
    return Cut(member.start, member.value_start, b'"%s":' % RENAMED[member.name].encode())
