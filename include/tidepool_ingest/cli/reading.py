"""What the commands share that read a data file: the options that say what its rows do not say."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, get_args

from tidepool_ingest.cli.arguments import CommandError, given_path
from tidepool_ingest.cli.given import Given, files_only, readable
from tidepool_ingest.formats import FORMATS, guess_format, taken_options
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import DateOrder, MeantAs, StrictJsonError, strict_json
from tidepool_ingest.staging.storage import GIVEN, StoragePath, read_at_most

if TYPE_CHECKING:
    from pydantic import JsonValue, ValidationError

    from tidepool_ingest.staging.manifest import FileOptions, ZonePeriod

MAPPING_OPTION = "table"
"""What ``--mapping`` is called in a manifest, and by the format that takes it."""

MAX_MAPPING_BYTES = 512 * 1024
"""Largest mapping of a table: it goes into the manifest."""


WRONG_USE: Final = (
    "arguments",
    "file-missing",
    "file-not-permitted",
    "file-not-regular",
    "staging-unreachable",
    "staging-unreadable",
    "work-area-sealed",
    "work-keys",
)
"""Codes of errors that are not about what is in the files."""


def add_reading(command: argparse.ArgumentParser) -> None:
    """Add the options that say how a data file is to be read."""
    command.add_argument(
        "--format", choices=list(FORMATS), help="how the data file holds its records (default: detected)"
    )
    reading = command.add_argument_group("for files whose rows do not say it themselves, such as exports")
    reading.add_argument(
        "--timezone",
        action="append",
        metavar="NAME[@UNTIL]",
        help="IANA name of the zone that the device's clock was set to, e.g. Europe/London; for a clock that "
        "was set to several, repeat it, each but the last until a local time: "
        "Europe/London@2026-07-04T09:30:00",
    )
    reading.add_argument(
        "--date-order", choices=get_args(DateOrder), help="how dates begin, if no row shows it"
    )
    reading.add_argument("--keep-notes", action="store_true", help="keep free text too, as records")
    reading.add_argument(
        "--mapping", metavar="FILE", help="what the columns of a table mean, as JSON (format table)"
    )
    reading.add_argument(
        "--serial", metavar="NUMBER", help="the device whose rows are meant, if there are several"
    )
    reading.add_argument(
        "--meant-as",
        action="append",
        default=[],
        choices=get_args(MeantAs),
        metavar="CODE",
        help=f"what would hold the batch and is as it is meant to be; may be repeated: "
        f"{', '.join(get_args(MeantAs))}",
    )


def zones_of(options: argparse.Namespace) -> str | tuple[ZonePeriod, ...] | None:
    """Return what ``--timezone`` says: a name, which may be no zone's; or periods.

    :raises CommandError: the periods are not in order, or name no zone.
    """
    if not options.timezone:
        return None
    if len(options.timezone) == 1 and "@" not in options.timezone[0]:
        return str(options.timezone[0])
    # Loaded only here, as models are that few commands need.
    from pydantic import ValidationError

    from tidepool_ingest.staging.manifest import FileOptions, ZonePeriod

    given = [text.partition("@") for text in options.timezone]
    try:
        periods = tuple(ZonePeriod(zone=zone, until=until if at else None) for zone, at, until in given)
        stated = FileOptions(timezone=periods).timezone
    except ValidationError as error:
        raise _wrong_option(error, "timezone") from None
    assert isinstance(stated, tuple)
    return stated


def said_of_reading(options: argparse.Namespace) -> FileOptions | None:
    """Return how the command line says a file is to be read, if it does; what it names is opened once.

    :raises CommandError: an option is not valid.
    """
    if not hasattr(options, _SAID):
        setattr(options, _SAID, _said_of_reading(options))
    said: FileOptions | None = getattr(options, _SAID)
    return said


_SAID: Final = "said_of_reading"
"""Where the arguments keep what was read by them: a mapping may be a pipe."""


def reading_options(options: argparse.Namespace) -> FileOptions:
    """Return the same, with nothing said in it if the command line says nothing.

    :raises CommandError: an option is not valid.
    """
    from tidepool_ingest.staging.manifest import FileOptions

    return said_of_reading(options) or FileOptions()


def _said_of_reading(options: argparse.Namespace) -> FileOptions | None:
    given = {
        "timezone": zones_of(options),
        "date_order": options.date_order,
        "keep_notes": options.keep_notes or None,
        "serial": options.serial,
        MAPPING_OPTION: _mapping(options.mapping) if options.mapping is not None else None,
    }
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return None
    # Loaded only here, as models are that few commands need.
    from pydantic import ValidationError

    from tidepool_ingest.staging.manifest import FileOptions

    try:
        return FileOptions.model_validate(said, by_name=True)
    except ValidationError as error:
        raise _wrong_option(error) from None


def _wrong_option(error: ValidationError, option: str = "") -> CommandError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a value that may be of two kinds, each kind says what is wrong; our own words say it best.
    problem = next((one for one in problems if one["type"] == "timezone"), problems[0])
    name = option or str(problem["loc"][0] if problem["loc"] else "")
    text = problem["msg"].removeprefix("Value error, ")
    return CommandError(
        f"--{name.replace('_', '-')} {text[:1].lower()}{text[1:]}." if name else f"An option {text}.",
        "Correct it: `--help` tells how it is given.",
    )


def _mapping(text: str) -> dict[str, JsonValue]:
    try:
        mapping = strict_json(_read(text))
    except StrictJsonError as error:
        raise CommandError(f"--mapping: {error.detail}.", "Correct the mapping.") from None
    except BatchError as error:
        raise CommandError(
            f"--mapping: the file cannot be read [{error.code}].", "Check its path.", error.code
        ) from None
    if not isinstance(mapping, dict):
        raise CommandError("--mapping holds no JSON object.", "Correct the mapping.")
    return mapping


def _read(text: str) -> bytes:
    with readable(given_path(text)) as path:
        content = read_at_most(path, MAX_MAPPING_BYTES, missing="file-missing", below_root=GIVEN)
    if len(content) > MAX_MAPPING_BYTES:
        raise StrictJsonError(f"it is larger than {MAX_MAPPING_BYTES} bytes")
    return content


def format_of(
    path: StoragePath, options: argparse.Namespace, guess: Callable[[StoragePath], str] = guess_format
) -> str:
    """Return the format of a data file: the one that is named or takes a mapping, or what the file shows.

    :param path: the file.
    :param options: the command line.
    :param guess: finds it out.
    :raises BatchError: it cannot be found out.
    :raises CommandError: the format does not take an option that is given.
    """
    if options.format:
        return str(options.format)
    by_mapping = (name for name, reader in FORMATS.items() if MAPPING_OPTION in reader.options)
    told = next(by_mapping, None) if options.mapping else None
    return told or guess(path)


def check_files(things: Sequence[Given], options: argparse.Namespace) -> None:
    """Make sure that nothing is said of a batch that its manifest says.

    :param things: what was given.
    :param options: the command line.
    :raises CommandError: how files are to be read is said, and there is a batch among them.
    """
    if options.format:
        files_only(things, "--format is for a data file.", "Leave it out: manifest.json names the formats.")
    said = said_of_reading(options)
    if (said and said.given) or options.meant_as:
        what = "How a file is to be read can be said of a data file."
        files_only(things, what, "Leave it out: manifest.json says it.")


def check_taken(name: str, given: FileOptions | None) -> None:
    """Make sure that a format takes the options that are given for its files.

    :param name: the format.
    :param given: the options.
    :raises CommandError: it does not.
    """
    if given is None:
        return
    if untaken := sorted(given.given.keys() - taken_options(name)):
        option = next(
            key for key, field in type(given).model_fields.items() if (field.alias or key) == untaken[0]
        )
        written = "mapping" if option == MAPPING_OPTION else option.replace("_", "-")
        raise CommandError(
            f"Format {name} takes no --{written}.",
            "Leave it out, or name another format with --format.",
        )
