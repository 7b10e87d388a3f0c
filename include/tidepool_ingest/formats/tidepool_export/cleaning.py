"""Exported records, cleaned one by one: without what Tidepool added, with labels and links corrected.

The Platform accepts a bolus embedded in the calculation that recommended it, and a status embedded in the
alarm or reservoir change that it belongs to; it then stores two records, and the first links to the other. An
export shows the two, and the link, which the Platform does not accept. Here the two are joined again, so
that the link is not lost: the record that is linked to is sent inside the other, and no longer on its own.

That is done only where nothing can be lost or duplicated by it: both must be acceptable on their own, the
link must lead to one content only, and each content is embedded once. Any other link is dropped, and each
of the two records is sent on its own.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple

from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.tidepool_export.platform_fields import HIDDEN_PREFIX, PLATFORM_FIELDS
from tidepool_ingest.formats.tidepool_export.units import kind_of
from tidepool_ingest.model import NotDecodableError, decode
from tidepool_ingest.staging.edits import Edits
from tidepool_ingest.staging.splice import Cut, Member, cut_member, members, spliced, with_member

CARELINK: Final = "carelink"
"""The only ``source`` that the Platform accepts."""

RENAMED: Final = {"rateOfChangeAlert": "rateOfChangeAlerts"}
"""Fields that the Platform stores under another name than it reads (P: data/types/settings/cgm)."""

MAX_LINKS: Final = 100_000
"""Links of a batch that are followed, at some 300 bytes each; further ones are dropped."""

LINK_FIELDS: Final = {
    "wizard": "bolus",
    "deviceEvent/alarm": "status",
    "deviceEvent/reservoirChange": "status",
}
"""The field in which each kind of record links to, or embeds, another one."""

_TARGETS: Final = {"bolus": "bolus", "deviceEvent/status": "status"}
"""Kinds that are linked to, and the linking field."""

JOIN_KEY: Final = "joinKey"
"""What linked calculation and bolus until 2014, instead of ``id``."""


def is_dropped(name: str, value: Any) -> bool:
    """Return whether a field is to be left out.

    :param name: its name.
    :param value: its value, decoded.
    """
    if name == "source":
        return bool(value != CARELINK)
    return name in PLATFORM_FIELDS or name.startswith(HIDDEN_PREFIX)


class LinkKey(NamedTuple):
    """What a link and the record that it leads to have in common.

    :param field: the field that links.
    :param by: the field of the other record that it names: ``id`` or ``joinKey``.
    :param value: the value there.
    """

    field: str
    by: str
    value: str

    def __repr__(self) -> str:
        """Leave the value out."""
        return f"LinkKey(field={self.field!r}, by={self.by!r})"


def link_of(kind: str, datum: Mapping[str, Any]) -> LinkKey | None:
    """Return the link in a record.

    :param kind: type, and sub-type for device events, as ``deviceEvent/alarm``.
    :param datum: the record, decoded.
    """
    field = LINK_FIELDS.get(kind)
    if field is None:
        return None
    linked = datum.get(field)
    if isinstance(linked, str):
        return LinkKey(field, "id", linked)
    joined = datum.get(JOIN_KEY)
    return LinkKey(field, JOIN_KEY, joined) if linked is None and isinstance(joined, str) else None


def keys_of(kind: str, datum: Mapping[str, Any]) -> Iterator[LinkKey]:
    """Yield the keys by which a record can be linked to.

    :param kind: as for :func:`link_of`.
    :param datum: the record, decoded.
    """
    field = _TARGETS.get(kind)
    if field is not None:
        for by in ("id", JOIN_KEY):
            value = datum.get(by)
            if isinstance(value, str):
                yield LinkKey(field, by, value)


@dataclass
class _Link:
    """One link: what contains it, and what it leads to.

    :param holder: digest of the first acceptable record that contains it, without the link.
    :param target: digest of the content that it leads to.
    :param stored_at: where that is in the file: offset and length.
    :param is_unambiguous: it leads to one content only.
    """

    holder: int | None = None
    target: int | None = None
    stored_at: tuple[int, int] = (0, 0)
    is_unambiguous: bool = True


class Links:
    """The links of a batch; the records that they lead to are kept in a private temporary file.

    First :meth:`add` every link, then :meth:`offer_holder` and :meth:`offer_target` the acceptable records,
    then :meth:`resolve`; at the end :meth:`close`.
    """

    def __init__(self) -> None:
        self.embedded: set[int] = set()
        self._links: dict[LinkKey, _Link] = {}
        self._file: IO[bytes] | None = None

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __bool__(self) -> bool:
        return bool(self._links)

    def __contains__(self, key: LinkKey | None) -> bool:
        return key in self._links

    def add(self, key: LinkKey) -> None:
        """Record a link that is to be followed."""
        if len(self._links) < MAX_LINKS:
            self._links.setdefault(key, _Link())

    def offer_holder(self, key: LinkKey, content: int) -> None:
        """Record which record contains a link; of several with different content only the first keeps it.

        :param key: the link.
        :param content: digest of the record without the link.
        """
        link = self._links.get(key)
        if link is not None and link.holder is None:
            link.holder = content

    def offer_target(self, key: LinkKey, content: int, text: bytes) -> None:
        """Keep a record that may be linked to.

        :param key: what it is linked by.
        :param content: digest of its content.
        :param text: the record as it would be sent on its own.
        """
        link = self._links.get(key)
        if link is None:
            return
        if link.target is not None:
            link.is_unambiguous = link.is_unambiguous and link.target == content
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        link.target, link.stored_at = content, (self._file.tell(), len(text))
        self._file.write(text)

    def resolve(self) -> None:
        """Decide which links are embedded; ``embedded`` then has the contents not sent on their own."""
        kept: dict[LinkKey, _Link] = {}
        for key, link in self._links.items():
            target = link.target
            if link.holder is None or target is None or not link.is_unambiguous or target in self.embedded:
                continue
            kept[key] = link
            self.embedded.add(target)
        self._links = kept

    def embedded_in(self, key: LinkKey, content: int) -> bytes | None:
        """Return what a record is to embed.

        :param key: its link.
        :param content: digest of the record without the link.
        :return: the text; ``None`` if its link is to be dropped.
        """
        link = self._links.get(key)
        if link is None or link.holder != content or self._file is None:
            return None
        offset, length = link.stored_at
        self._file.seek(offset)
        return self._file.read(length)


class ExportCleaner:
    """Cleans exported records, one after the other.

    ``changes`` counts, for each field, the records in which it was changed; fields of an embedded datum are
    named by their path, such as ``bolus.id``.

    :param mislabelled: kinds of records whose mg/dL values are really mmol/L.
    :param links: what to embed; without it every link is dropped.
    """

    def __init__(self, mislabelled: frozenset[str] = frozenset(), links: Links | None = None) -> None:
        self._mislabelled = mislabelled
        self._links = links
        # Loaded only here, as models are that take longer than many a file.
        from tidepool_ingest.staging.manifest import RecordEdits

        self._relabel = Edits(RecordEdits(glucose_units="mmol/L"))
        self._changes: Counter[str] = Counter()

    @property
    def changes(self) -> Counter[str]:
        """How many records were changed, by field."""
        return self._changes + self._relabel.changes

    def apply(self, line: bytes) -> bytes:
        """Return a record as a client would send it; what is not a JSON object is returned unchanged.

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
        embedded = self._links.embedded_in(key, digest_of(cleaned))
        if embedded is None:
            return cleaned
        if key.field not in datum:  # otherwise it was counted when the link was removed
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
            if is_dropped(member.name, value) or (member.name == link_field and isinstance(value, str)):
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
