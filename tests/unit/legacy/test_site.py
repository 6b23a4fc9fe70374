"""What lies beside a TIDStorage 5 configuration: its clock's seconds."""

import time

from tidstorage.legacy import site as sites

_SECOND = "%Y-%m-%d-%H-%M-%S"


def test_the_next_second_is_that_of_the_clock_that_repozo_reads(tmp_path, monkeypatch):
    """time(2) lags behind datetime's clock, in earnest by up to a tick."""
    real_gmtime = time.gmtime

    def lagging(seconds=None):
        return real_gmtime(time.time() - 0.5 if seconds is None else seconds)

    monkeypatch.setattr(time, "gmtime", lagging)
    (tmp_path / "repository").mkdir()
    site = sites.Site(
        storages=(
            sites.SiteStorage("a", (), tmp_path / "Data.fs", tmp_path / "repository"),
        ),
        timestamps=tmp_path / "timestamps",
        status_file=None,
        status_backups=None,
        keep_full=None,
    )
    # Half a second of the next one has to pass before gmtime() shows it.
    while (taken := time.strftime(_SECOND, time.gmtime())) == time.strftime(
        _SECOND, time.gmtime(time.time())
    ):
        time.sleep(0.01)
    latest = time.strftime(_SECOND, time.gmtime(time.time()))
    assert latest > taken
    (tmp_path / "repository" / f"{latest}.fs").touch()

    awaited = sites.await_next_second(site)

    assert awaited > latest
    assert awaited <= time.strftime(_SECOND, time.gmtime())
