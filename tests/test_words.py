"""Retired words stay retired, in names; docs/glossary.md says which word stands for what."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from tests import PROJECT

PRODUCT = ("include", "plugins", "dev", "dags", "bench")

_RETIRED = """
agreement_in ANSWER_LIMIT_BYTES Answering _asked_who_i_am BatchRecheck BatchUpload BatchWithdrawal
BatchWrites _BEGIN_BY Begun begun_by BEGUN_TO_CLOSE begun_within _can_be_taken_back change_mark CHANGE_MARKS
check_not_in_its_place Circumstances _Claim claim_for_normal CLAIM_SECONDS claims_on close_and_look
CORRECTED COUNTS_NOTED cut_into_parts data_sets_left DataSetLeft delete_left FeedContents FeedKeeper
FeedSorter FeedWay _Filing find_marked forget_refusals GIVEN_UP go_on IN_ITS_PLACE _in_the_places
InItsPlaceError is_as_sent is_rejected job_of judge_data_set judge_line judge_lines judge_many _keeper
KEYS_A_QUERY later_sets left_for_next_run _left_of_all _left_of_an_earlier_attempt Leftovers
_let_parts_follow look_again _look_for_data manifest_marks max_refused_percent may_be_cut MET_AGAIN
NAMES_A_QUERY _NEED_AN_ANSWER never_shorter _no_answer NormalWay note_all note_check note_confirmed note_cut
note_decision note_deletions note_dropped _note_failure note_failure _note_one note_parts note_replaced
_note_right note_tidied _note_under_way _noted NOTED_AT_ONCE _nothing_left _NothingLeftError Noting
older_at_work once_more_if_met OriginGiver OriginSurvey parse_and_judge PartsRecheck PartsUpload
percent_allowed PortlessConnectionTest predicted_drops quiet_circumstances read_back_later readers_at_work
recheck_of RecordSorter refused_beside REFUSED_GRANT RefusedRecords remove_half_written_long_ago RunMistakes
SeenDigests show_people show_silent ShownRows SignInServer silence_summary silent_days silent_devices
SilentDevice skip_in_its_place SlowDowns SortedBlock _stays_rejected surely_accepted take_back take_turn
TAKEN_BACK TAKES_BACK _tell_superseded tell_superseded _tell_the_whole TidepoolBatchesLeftError Tidied
TidiedAway Tidying TIDYING_SECONDS TIMES_MET _told_by_api _told_by_realm TOO_MANY_REFUSED
TooManyRefusedByTidepoolError TooManyRefusedError TRIED_AGAIN unsealed Unsorted unusable_answer
UPLOAD_ID_LENGTH UPLOAD_ID_PATTERN upload_of UploadAtWorkError UploadJob wait_for_device where_to_cut
_work_off work_off
"""
RETIRED_NAMES = frozenset(_RETIRED.split())
"""Names that stood for something once. Each had a better one, which is in use now."""

RETIRED_WORDS = {
    "ambiguous": "ambiguous",
    "bundle, which is Airflow's word for the source of DAG files": "bundle",
    "pace": "pace",
    "wish": "wish",
}
"""Words marked *Not* in the glossary that stand in no name of the product, not even as a part of one."""

MORE_RETIRED_WORDS = frozenset({"caution", "keeper", "leftovers", "tidy", "wishes"})
"""Likewise, but too far from a user to be in the glossary."""

STAYS_IN_SOME_NAMES = {
    "check": "a check of staged records is one",
    "claim": "a token's claims are OpenID Connect's",
    "corrected": "a record or a value that somebody corrected",
    "double": "rows that show twice; the type of numbers",
    "identical": "a metric, and a count in XCom and summaries",
    "keeping": "ordinary English",
    "leave": "ordinary English",
    "look again": "two words: look_again is in RETIRED_NAMES",
    "notes": "fields of the Platform's, and a person's notebook among the sample data",
    "snooze": "a setting of alarms at the Platform",
    "option": "a run's parameters as a whole are its RunOptions, a command's are its options",
    "part": "retired for embedded data only; of a giant batch it is the word",
    "place": "ordinary English; a source position is not called so",
    "refused, except in `too-many-refused` and `when_refused`": "an HTTP server refuses; fixed names",
    "repeat": "a code of the Platform's",
    "row": "retired for records only; at Tidepool and in tables it is the word",
    "sealed": "a row of `make bench`",
    "session": "a command, and what signing in opens",
    "silent": "a key in XCom, and what a validator does without comment",
    "slow-down": "a 429 asks a throttle to slow down",
    "take back": "two words: take_back is in RETIRED_NAMES",
    "the Airflow task that does the work": "a phrase",
    "tidying": "only the stem is a name: tidy is retired",
    "upload id": "Tidepool's field; test_the_id_of_a_data_set_has_one_name",
}
"""Words marked *Not* in the glossary that cannot be forbidden as parts of names, and why."""

TIDEPOOLS_OWN_NAME = ("include/tidepool_ingest/model/", "include/tidepool_simulator/")
"""Where the id of a data set may have Tidepool's name: the Platform's fields, and its imitation."""


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


def names_in(source: str) -> set[str]:
    """Return every name in a source text, wherever it stands."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def names_of(path: Path) -> set[str]:
    """Return every name in a module, with its own and those of its folders."""
    return names_in(path.read_text()) | set(path.relative_to(PROJECT).with_suffix("").parts)


def words_in(name: str) -> set[str]:
    """Return the words that a name is made of, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def retired_in(names: set[str]) -> set[str]:
    """Return the names that are retired, or made of a retired word."""
    words = MORE_RETIRED_WORDS | set(RETIRED_WORDS.values())
    return {name for name in names if name in RETIRED_NAMES or words_in(name) & words}


def marked_not() -> Iterator[str]:
    """Yield each word that the glossary marks *Not*."""
    for list_of_words in re.findall(r"\*Not:\* ([^|]+?) \|", (PROJECT / "docs" / "glossary.md").read_text()):
        if "which" in list_of_words or "except" in list_of_words:
            yield list_of_words
        else:
            yield from list_of_words.split(", ")


@pytest.mark.parametrize("folder", PRODUCT)
def test_no_retired_name_stands_in_the_product(folder: str) -> None:
    found = {str(path.relative_to(PROJECT)): retired_in(names_of(path)) for path in modules(folder)}

    assert found
    assert {path: names for path, names in found.items() if names} == {}


def test_no_retired_name_stands_in_a_test() -> None:
    found = {str(path.relative_to(PROJECT)): names_of(path) & RETIRED_NAMES for path in modules("tests")}

    assert {path: names for path, names in found.items() if names} == {}


def test_a_retired_name_is_found_wherever_it_stands() -> None:
    source = "def f(pace=0):\n    return [job.TAKES_BACK for _Claim in self.run_wishes]\n"

    assert retired_in(names_in(source)) == {"pace", "TAKES_BACK", "_Claim", "run_wishes"}
    assert retired_in({"UploadCaution", "namespace", "space", "Wish", "keeper"}) == {
        "UploadCaution",
        "Wish",
        "keeper",
    }


def test_the_id_of_a_data_set_has_one_name() -> None:
    ours = [
        path
        for path in modules(*PRODUCT)
        if not str(path.relative_to(PROJECT)).startswith(TIDEPOOLS_OWN_NAME)
    ]

    assert [str(path.relative_to(PROJECT)) for path in ours if "upload_id" in names_of(path)] == []


def test_each_word_that_the_glossary_retires_is_looked_for_or_explained() -> None:
    marked = set(marked_not())

    assert len(marked) > 15
    assert marked == set(RETIRED_WORDS) | set(STAYS_IN_SOME_NAMES)
    assert not set(RETIRED_WORDS) & set(STAYS_IN_SOME_NAMES)
