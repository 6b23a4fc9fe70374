"""What waits too long is said, once, and mends itself when its cause goes."""

import contextlib
import signal

import pytest
import ZEO
from observed_site import Committer, Site
from real_processes import PATIENCE, wait_until
from ZODB.Connection import TransactionMetaData

pytestmark = pytest.mark.integration


@pytest.fixture
def impatient(site: Site):
    """A daemon that says so after a second."""
    site.describe(also="alarm-after 1\n")
    site.write(2)
    site.daemon.start()
    site.bootstrapped()
    site.wait_for_all()
    return site


def alarms(site, *words):
    """The alarms of now that have all these words."""
    found = site.observed()["alarms"]
    return [each for each in found if all(word in each for word in words)]


def lines(site, *words):
    """The lines of the log that have all these words."""
    text = site.daemon.log.read_text().splitlines()
    return [line for line in text if all(word in line for word in words)]


def test_a_client_that_is_held_between_its_finishes(impatient):
    site = impatient
    committer = Committer(site)
    with contextlib.closing(committer):
        voted = committer.vote("a", "c")
        voted.finish("a")
        wait_until(lambda: alarms(site, "the point", "missing of c"), "an alarm")
        # It waits on, and the log has said so.
        wait_until(lambda: alarms(site, "has been 3 s behind"), "three seconds")
        assert len(lines(site, "WARNING", "s behind")) == 1
        voted.finish("c")
        wait_until(lambda: not alarms(site, "the point"), "the end of it")
        site.wait_for_all()
    assert len(lines(site, "over: the point")) == 1


def test_a_lock_that_stays_where_nothing_waits(impatient):
    site = impatient
    client = ZEO.client(site.two.address, storage="d", wait_timeout=PATIENCE)
    with contextlib.closing(client):
        held = TransactionMetaData()
        client.tpc_begin(held)
        client.tpc_vote(held)
        wait_until(lambda: alarms(site, "storage d has been locked"), "an alarm")
        client.tpc_abort(held)
        wait_until(lambda: not alarms(site, "storage d"), "the end of it")
    assert len(lines(site, "WARNING", "storage d has been locked")) == 1


def test_a_server_that_does_not_answer(impatient):
    """It is asked over another connection, and once it goes on nothing was missed."""
    site = impatient
    site.two.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: lines(site, "over another connection"), "a successor")
        wait_until(lambda: alarms(site, "storage c has not been observed"), "an alarm")
    finally:
        site.two.signal(signal.SIGCONT)
    wait_until(lambda: not alarms(site, "storage c"), "the end of it")
    site.write(5)
    site.wait_for_all()
    site.check_all_points()


def test_a_server_that_is_down(impatient):
    site = impatient
    site.two.stop()
    wait_until(lambda: alarms(site, "storage c has not been observed"), "an alarm")
    assert len(lines(site, "WARNING", "storage c has not been observed for")) == 1
    site.two.start()
    wait_until(lambda: not alarms(site, "storage c"), "the end of it")
    assert not site.observed()["alarms"] or alarms(site, "storage d")
