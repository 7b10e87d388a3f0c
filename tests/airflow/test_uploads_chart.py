"""A gap and a doubled day stand out in the chart; what is merely irregular does not."""

from __future__ import annotations

from datetime import date, timedelta

from tidepool_airflow.uploads_page.chart import LONGEST_GAP, MOST_SLOTS, charts

FIRST = date(2026, 1, 1)


def after(days: int) -> date:
    return FIRST + timedelta(days=days)


def cgm(days: int) -> dict[date, dict[str, int]]:
    return {after(day): {"cbg": 288} for day in range(days)}


def test_a_gap_and_a_doubled_day_are_marked() -> None:
    own = cgm(10)
    del own[after(3)], own[after(4)]
    own[after(7)]["cbg"] = 576

    (chart,) = charts(own, {})

    assert {bar.day: bar.mark for bar in chart.bars if bar.mark} == {
        after(3): "gap",
        after(4): "gap",
        after(7): "unusual",
    }
    assert (chart.gaps, chart.unusual, chart.highest, chart.records) == (2, (after(7),), 576, 7 * 288 + 576)
    assert [bar.records for bar in chart.bars] == [288, 288, 288, 0, 0, 288, 288, 576, 288, 288]


def test_what_does_not_come_every_day_has_no_gaps_and_few_records_vary_by_chance() -> None:
    own = cgm(10)
    for day in (0, 4, 5, 9):
        own[after(day)]["physicalActivity"] = 3 if day == 4 else 1

    _cgm, activity = charts(own, {})

    assert (activity.type, activity.gaps, activity.unusual) == ("physicalActivity", 0, ())
    assert {bar.mark for bar in activity.bars} == {""}


def test_other_uploads_of_the_device_stand_on_the_own_ones() -> None:
    (chart,) = charts(cgm(3), {after(1): {"cbg": 288, "smbg": 4}})

    first, second, _third = chart.bars
    assert (first.others, second.others, chart.highest) == (0, 288, 576)
    assert second.others_top == 0
    assert second.top == second.others_height == second.height


def test_a_long_gap_takes_one_place() -> None:
    own = cgm(2) | {after(LONGEST_GAP + 3): {"cbg": 288}}

    (chart,) = charts(own, {})

    assert [bar.gap_days for bar in chart.bars] == [0, 0, LONGEST_GAP + 1, 0]
    assert len(charts(cgm(2) | {after(LONGEST_GAP + 2): {"cbg": 1}}, {})[0].bars) == LONGEST_GAP + 3


def test_no_records_no_chart_and_the_newest_years_of_many() -> None:
    assert charts({}, {}) == []
    (chart,) = charts(cgm(MOST_SLOTS + 5), {})
    assert (len(chart.bars), chart.bars[-1].day, chart.stretched) == (
        MOST_SLOTS,
        after(MOST_SLOTS + 4),
        False,
    )
