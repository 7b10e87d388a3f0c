"""What a terminal can show, and text laid out for it: width, colours, and signs that its encoding has.

Text from a file, and the names of files, come in through :func:`printable`: what would move a cursor,
colour a screen or turn the direction of writing is shown as what it is.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import IO, Final

WIDEST: Final = 80
NARROWEST: Final = 40
"""Below this, the terminal breaks the lines."""


class Colours(IntEnum):
    """How many colours there are."""

    NONE = 0
    FEW = 16
    MANY = 256
    ALL = 1 << 24


BOLD: Final = "1"
DIM: Final = "2"
GOOD: Final = "32"
BAD: Final = "31"

_ELSEWHERE: Final = str.maketrans({"…": "...", "\N{NO-BREAK SPACE}": " "})
"""What stands for a sign of our own where the encoding lacks it."""


_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def printable(text: str) -> str:
    r"""Return a text with what cannot be printed as ``\x1b`` or ``\u202e``, as Python spells it.

    :param text: from a file, or the name of one.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def columns_of(text: str) -> int:
    """Return how many columns a printable text takes.

    :param text: without escape sequences.
    """
    if text.isascii():
        return len(text)
    return sum(_columns_of_sign(sign) for sign in text)


def _columns_of_sign(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


@dataclass(frozen=True)
class Terminal:
    """Where text goes to.

    :param width: columns.
    :param colours: how many colours there are.
    :param encoding: of the stream.
    """

    width: int = WIDEST
    colours: Colours = Colours.NONE
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: IO[str], environ: Mapping[str, str] = os.environ) -> Terminal:
        """Return what a stream can show.

        :param stream: usually the standard output.
        :param environ: the environment; ``NO_COLOR`` comes before all that asks for colours.
        """
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        return cls(
            width=max(NARROWEST, min(WIDEST, columns)),
            colours=_colours_of(stream, environ),
            encoding=getattr(stream, "encoding", None) or "utf-8",
        )

    def can_show(self, signs: str) -> bool:
        """Return whether the encoding has some signs.

        :param signs: the signs.
        """
        try:
            signs.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def encodable(self, text: str) -> str:
        """Return a text in signs that the encoding has.

        :param text: the text; what is lacking, and what is no character at all, is spelt out.
        """
        if self.can_show(text):
            return text
        text = text.translate(_ELSEWHERE)
        if self.can_show(text):
            return text
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def styled(self, text: str, *styles: str) -> str:
        """Return a text in a style; as it is without colours.

        :param text: the text, without escape sequences.
        :param styles: parameters of the sequence ``SGR`` of ECMA-48.
        """
        wanted = ";".join(style for style in styles if style)
        if not (self.colours and wanted and text):
            return text
        return f"\x1b[{wanted}m{text}\x1b[0m"

    @property
    def warning(self) -> str:
        """The style of what somebody should look at; the usual yellow is hard to read on white."""
        return "33" if self.colours <= Colours.FEW else "38;5;172"


def _colours_of(stream: IO[str], environ: Mapping[str, str]) -> Colours:
    if environ.get("NO_COLOR"):
        return Colours.NONE
    forced = any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
    term = environ.get("TERM", "")
    if not forced and (not stream.isatty() or term in ("", "dumb") or environ.get("CLICOLOR") == "0"):
        return Colours.NONE
    if environ.get("COLORTERM") in ("truecolor", "24bit"):
        return Colours.ALL
    return Colours.MANY if "256" in term else Colours.FEW


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a text, none wider than it may be; a long word is cut, and no-break blanks hold.

    :param text: the text, without line breaks.
    :param width: columns of a line.
    """
    for line in _broken(text, width):
        yield line.replace(_NO_BREAK, " ")


def _broken(text: str, width: int) -> Iterator[str]:
    line, taken = "", 0
    for word in filter(None, text.split(" ")):
        size = columns_of(word)
        if line and taken + 1 + size > width:
            yield line
            line, taken = "", 0
        while size > width:
            head = _head(word, width)
            yield head
            word = word[len(head) :]
            size = columns_of(word)
        line = f"{line} {word}" if line else word
        taken = columns_of(line)
    if line:
        yield line


def _head(word: str, width: int) -> str:
    taken = 0
    for at, sign in enumerate(word):
        taken += _columns_of_sign(sign)
        if taken > width:
            return word[: max(at, 1)]
    return word


LABEL_WIDTH: Final = 9


@dataclass
class Sheet:
    """Lines of text for a terminal, as they come.

    :param terminal: where they go.
    """

    terminal: Terminal
    lines: list[str] = field(default_factory=list)

    def blank(self) -> None:
        """Leave one line empty, unless it is the first or there is one."""
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def heading(self, text: str, style: str = "") -> None:
        """Begin a section."""
        self.blank()
        self.text(text, BOLD, style)

    def text(self, text: str, *styles: str, indent: int = 0, hanging: int = 0) -> None:
        """Append a paragraph.

        :param text: the text.
        :param styles: for all of it.
        :param indent: blanks before each line.
        :param hanging: more blanks before each line but the first.
        """
        text = self.terminal.encodable(text)
        width = self.terminal.width - indent - hanging
        first = True
        for line in wrapped(text, width):
            margin = " " * (indent if first else indent + hanging)
            self.lines.append(margin + self.terminal.styled(line, *styles))
            first = False

    def item(self, head: str, text: str, *styles: str, indent: int = 2, style: str = "") -> None:
        """Append a paragraph after a head, which stands alone to its left, or above where it is too wide.

        :param head: a word or two.
        :param text: the paragraph.
        :param styles: of the head.
        :param indent: blanks before it.
        :param style: of the paragraph.
        """
        head, text = self.terminal.encodable(head), self.terminal.encodable(text)
        margin = indent + columns_of(head) + 2
        if 2 * margin > self.terminal.width and margin + columns_of(text) > self.terminal.width:
            self.text(head, *styles, indent=indent, hanging=2)
            self.text(text, style, indent=indent + 2)
            return
        first = True
        for line in wrapped(text, max(10, self.terminal.width - margin)):
            before = " " * indent + self.terminal.styled(head, *styles) + "  " if first else " " * margin
            self.lines.append(before + self.terminal.styled(line, style))
            first = False

    def labelled(self, label: str, text: str, style: str = "") -> None:
        """Append a paragraph after a label of fixed width."""
        self.item(label.ljust(LABEL_WIDTH), text, DIM, style=style)

    def raw(self, line: str) -> None:
        """Append a line as it is: laid out and coloured already, or to be copied whole."""
        self.lines.append(line)

    def __str__(self) -> str:
        """Return the lines, each ended."""
        return "".join(f"{line.rstrip(' ')}\n" for line in self.lines)
