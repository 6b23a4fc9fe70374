"""What holds for all tests: nothing of them is up to chance, or to who runs beside.

``HYPOTHESIS_PROFILE=long`` looks for new examples, and for many; otherwise all
runs have the same ones.
"""

import os

import pytest
import real
from hypothesis import HealthCheck, settings

settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("long", settings.get_profile("same"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def _own_ports():
    """The product's own choice of free ports, too, is among those of this process."""
    with real.block_of_ports():
        yield
