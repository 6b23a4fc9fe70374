"""Which files of TIDStorage 5's backups are in excess."""

import pytest

from tidstorage.legacy import cleanup
from tidstorage.legacy.site import Site, SiteStorage


def at(second):
    return f"2026-11-29-10-00-{second:02}"


@pytest.fixture
def site(tmp_path):
    """Three backups, ten seconds apart; each copy was begun a second or two later."""
    storages = [
        SiteStorage(name, (), tmp_path / f"{name}.fs", tmp_path / name) for name in "ab"
    ]
    logs = tmp_path / "logs"
    logs.mkdir()
    for begun in (0, 10, 20):
        (logs / f"tid-{at(begun)}").touch()
        for later, storage in enumerate(storages, 1):
            storage.repository.mkdir(exist_ok=True)
            (storage.repository / f"{at(begun + later)}.fs").touch()
    timestamps = tmp_path / "timestamps"
    timestamps.write_text(f"{at(4)}\n{at(14)}\n{at(24)}")
    return Site(tuple(storages), timestamps, tmp_path / "tid", logs, keep_full=2)


def names(site):
    return [path.name for path in cleanup.find_excess(site)]


def test_the_tid_log_of_the_oldest_copy_stays(site):
    """It has the time before the copy, and a restore cuts the copy by it."""
    assert names(site) == [f"{at(1)}.fs", f"{at(2)}.fs", f"tid-{at(0)}"]


def test_logs_of_runs_that_failed_since_stay_too(site):
    (site.status_backups / f"tid-{at(16)}").touch()
    assert f"tid-{at(16)}" not in names(site)


def test_without_a_log_as_old_as_the_oldest_copy_all_stay(site):
    for second in (0, 10):
        (site.status_backups / f"tid-{at(second)}").unlink()
    assert names(site) == [f"{at(1)}.fs", f"{at(2)}.fs"]


def test_where_a_repository_proves_nothing_no_log_goes(site):
    """Its first copies are of a run that failed."""
    for path in site.storages[1].repository.iterdir():
        path.unlink()
    assert names(site) == [f"{at(1)}.fs"]
