"""A local Tidepool Platform to practise on, faithful in its traps and able to fail on request.

It shares the model with the rest of the project and nothing of the client: two sides of one wire.
"""

from tidepool_simulator.accounts import (
    CLIENT_ID,
    CLIENT_SECRET,
    PUBLIC_CLIENT_ID,
    Account,
    Accounts,
)
from tidepool_simulator.faults import Fault, Faults, ResponseFault, Work
from tidepool_simulator.server import Simulator, serve

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "PUBLIC_CLIENT_ID",
    "Account",
    "Accounts",
    "Fault",
    "Faults",
    "ResponseFault",
    "Simulator",
    "Work",
    "serve",
]
