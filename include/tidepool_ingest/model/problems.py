"""What can be wrong with a record: the Platform's error codes, and the few of our own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

ORIGIN_NOT_NEWER: Final = "staged-origin-not-newer"
"""Our own code: there is a version of the record with as new an ``origin.time``, and the deduplicator would
keep that and drop this one silently."""

HASH_REPEATED: Final = "staged-hash-repeated"
"""Our own code: there is another record of the same kind at the same moment, and the deduplicator would keep
that and drop this one silently."""

DEVICE_ID_DIFFERS: Final = "staged-device-id-differs"
"""Our own code: the deduplicator compares a device's data sets; it finds a datum of another device in none of
them."""


class Problem(NamedTuple):
    """One thing that is wrong with a record.

    :param code: the Platform's error code, or one of ours, which begin with ``staged-``.
    :param pointer: JSON pointer relative to the record; ``""`` for the record as a whole.
    """

    code: str
    pointer: str


POINTERS_MAX: Final = 64 * 1024 * 1024
"""Characters of all pointers of a record. Only where objects nest by the thousand, or have names of
megabytes, are pointers so long that the problems of a record take many times its size."""


DEPTH_MAX: Final = 10_000
"""Objects inside each other; the Platform reads no text of as many levels."""


class TooManyProblemsError(Exception):
    """The problems of one record would fill the memory."""


class _Shared:
    """What the problems of one record have in common, those put off included."""

    def __init__(self) -> None:
        self.room = POINTERS_MAX
        # Level by level: depth first, each level that is left for later would keep its pointer.
        self.waiting: deque[tuple[Callable[[str, Problems], None], str, Problems]] = deque()

    def take_room(self, characters: int) -> None:
        self.room -= characters
        if self.room < 0:
            self.waiting.clear()
            raise TooManyProblemsError


class Problems(list[Problem]):
    """The problems of a record in the Platform's order, as they are found.

    A model that contains itself does not look into an inner object at once, which would be recursion: it puts
    that off, and what is found later has its place where it was put off.
    """

    __slots__ = ("_depth", "_parts", "_shared")

    def __init__(self, shared: _Shared | None = None, depth: int = 0) -> None:
        super().__init__()
        self._shared = shared or _Shared()
        self._depth = depth
        self._parts: list[tuple[int, Problems]] | None = None  # most have none, and there can be many

    def append(self, problem: Problem) -> None:
        """Add a problem.

        :raises TooManyProblemsError: there are too many of too long pointers.
        """
        self._shared.take_room(len(problem.pointer))
        super().append(problem)

    def put_off(self, work: Callable[[str, Problems], None], pointer: str) -> None:
        """Leave the inside of an object for later.

        :param work: looks into it; gets the pointer, and where to add what it finds.
        :param pointer: the pointer to the object.
        :raises TooManyProblemsError: as for :meth:`append`, or it is deeper inside than any text can say.
        """
        if self._depth >= DEPTH_MAX:
            raise TooManyProblemsError
        self._shared.take_room(len(pointer))
        part = Problems(self._shared, self._depth + 1)
        if self._parts is None:
            self._parts = []
        self._parts.append((len(self), part))
        self._shared.waiting.append((work, pointer, part))

    def finish(self) -> None:
        """Do what was put off, and bring what was found into its order.

        :raises TooManyProblemsError: as for :meth:`append`.
        """
        while self._shared.waiting:
            work, pointer, part = self._shared.waiting.popleft()
            self._shared.room += len(pointer)
            work(pointer, part)
        if not self._parts:
            return
        found: list[Problem] = []
        opened = [(self, 0, 0)]  # each with how many of its problems and parts are already among those found
        while opened:
            problems, done, parts = opened.pop()
            if problems._parts is None or parts == len(problems._parts):
                found += problems[done:]
                continue
            end, part = problems._parts[parts]
            found += problems[done:end]
            opened += ((problems, end, parts + 1), (part, 0, 0))
        self[:] = found
        self._parts = None


# Parse stage (P: structure/parser/errors.go). A record with one of these is not validated any further.
TYPE_NOT_BOOL: Final = "type-not-bool"
TYPE_NOT_FLOAT: Final = "type-not-float64"
TYPE_NOT_INT: Final = "type-not-int"
TYPE_NOT_STRING: Final = "type-not-string"
TYPE_NOT_TIME: Final = "type-not-time"
TYPE_NOT_OBJECT: Final = "type-not-object"
TYPE_NOT_ARRAY: Final = "type-not-array"
NOT_PARSABLE: Final = "value-not-parsable"
NOT_PARSED: Final = "not-parsed"
JSON_MALFORMED: Final = "json-malformed"

# Validation stage (P: structure/validator/errors.go). The first three also come from the kind of a record.
NOT_EXISTS: Final = "value-not-exists"
NOT_ALLOWED: Final = "value-not-allowed"
EXISTS: Final = "value-exists"
EMPTY: Final = "value-empty"
OUT_OF_RANGE: Final = "value-out-of-range"
NOT_VALID: Final = "value-not-valid"
NOT_AFTER: Final = "value-not-after"
DUPLICATE: Final = "value-duplicate"
NONE_OF_ANY: Final = "values-not-exist-for-any"
NONE_OF_ONE: Final = "values-not-exist-for-one"
LENGTH: Final = "length-out-of-range"
SIZE: Final = "size-out-of-range"

# Ours: the staged line never becomes a record.
STAGED_NOT_JSON: Final = "staged-not-json"
"""The line is no JSON text: broken, ``NaN``, a number beyond float64, nested too deeply, more behind it."""
STAGED_NOT_UTF8: Final = "staged-not-utf8"
"""The line is not UTF-8. The Platform would store U+FFFD for the bytes; we do not lose them silently."""
STAGED_TOO_MANY_VALUES: Final = "staged-too-many-values"
"""The line holds so many values, or so many wrong ones so deep inside, that they would take many times its
size."""
STAGED_TIME_NOT_SHOWN: Final = "staged-time-not-shown"
"""In UTC, the time is after the year 9999 or before the year 0. The Platform accepts and stores the record,
and never shows it."""
STAGED_NUL_IN_NAME: Final = "staged-nul-in-name"
"""The name of a field holds the character U+0000. The Platform's validators let it pass, but its storage
cannot take it: it answers 500 to the whole request, each time."""
