"""What holds for all tests with real servers."""

import functools

import pytest
from real_processes import PATIENCE

from tidstorage.zeo import barrier


@pytest.fixture(scope="session", autouse=True)
def _patient_barriers():
    """Servers that have much else to do are no reason to do without a barrier.

    Only in this process, and where a test does not say for how long.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            barrier, "take", functools.partial(barrier.take, deadline=PATIENCE)
        )
        patched.setattr(barrier, "CONNECT_SECONDS", PATIENCE)
        yield
