"""What holds for all tests: nothing of them is up to chance, or to who runs beside.

``HYPOTHESIS_PROFILE=long`` looks for new examples, and for many; otherwise all
runs have the same ones.
"""

import os
import signal

import pytest
import real_processes
from hypothesis import HealthCheck, settings

pytest_plugins = ["first_failures"]

# Whoever started this in the background had it ignored, and so would all processes
# that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("long", settings.get_profile("same"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def _own_ports():
    """The product's own choice of free ports, too, is among those of this process."""
    with real_processes.block_of_ports():
        yield
