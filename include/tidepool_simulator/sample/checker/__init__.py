"""The independent checker, which says whether Tidepool shows each staged record once.

It reads the staged files and the simulator's store by itself and shares no code with what it
checks: nothing of the model, the staging readers, the client, the ledger, the upload or the verification.
Where it needs a rule of the Platform (the conversion of glucose, the fields a datum keeps), it has its own
copy, so that one mistake cannot hide on both sides.

    python -m tidepool_simulator.sample.checker STAGING STORE
"""

from __future__ import annotations

from tidepool_simulator.sample.checker.check import check
from tidepool_simulator.sample.checker.result import CheckResult, SetCheck

__all__ = ["CheckResult", "SetCheck", "check"]
