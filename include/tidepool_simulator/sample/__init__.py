"""Sample data: three people, eight devices, a month of plausible days, a hundredth of it spoiled on purpose.

Beside the devices' batches for normal data sets there is a feed for a continuous one, and a batch of each
format that vendors' and Tidepool's own exports have.

Nobody's data: the people are simulated. The demo stages what :func:`write_sample`,
:func:`write_sample_feed` and :func:`write_sample_exports` write, and
:mod:`tidepool_simulator.sample.checker` compares what was staged with what became visible.
"""

from __future__ import annotations

from tidepool_simulator.sample.exports import SampleExports, write_sample_exports
from tidepool_simulator.sample.feed import SampleFeed, write_sample_feed
from tidepool_simulator.sample.people import SAMPLE_USERS, practice_accounts
from tidepool_simulator.sample.spoil import Spoiled, SpoiledAs
from tidepool_simulator.sample.write import SampleBatch, SampleSummary, write_sample

__all__ = [
    "SAMPLE_USERS",
    "SampleBatch",
    "SampleExports",
    "SampleFeed",
    "SampleSummary",
    "Spoiled",
    "SpoiledAs",
    "practice_accounts",
    "write_sample",
    "write_sample_exports",
    "write_sample_feed",
]
