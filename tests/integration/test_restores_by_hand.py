"""Restores by other tools, of all files or of one: a new timeline begins with them."""

import contextlib
import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_sets import repozo
from daemons import DaemonProcess
from real_processes import wait_until
from small_cluster import SmallCluster, small_cluster

from tidstorage.cluster.cluster import Cluster
from tidstorage.engines import filestorage
from tidstorage.points import journal, known_files, timelines
from tidstorage.points.beside import newest_point, point_path
from tidstorage.points.entries import Timeline
from tidstorage.processes.accept_files import accept_files
from tidstorage.system import clock
from tidstorage.system.address import address_text
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallCluster]:
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def ends(cluster: Cluster) -> dict[str, int]:
    return {
        storage.id: filestorage.last_tid(storage.data_file)
        for storage in cluster.storages
    }


def state_of(cluster: Cluster, moment: datetime.datetime, into: Path) -> dict[str, int]:
    """{storage id: last TID} of a restore to a moment."""
    restore_elsewhere(cluster, Request(moment=moment), into)
    return {
        storage.id: filestorage.last_tid(into / storage.id / "Data.fs")
        for storage in cluster.storages
    }


def restore_by_hand(cluster: Cluster, copies: Path, ids: set[str]) -> None:
    for storage in cluster.storages:
        if storage.id in ids:
            path = storage.data_file
            path.with_name(path.name + ".index").unlink(missing_ok=True)
            shutil.copy2(copies / storage.id, path)


def all_ids(cluster: Cluster) -> set[str]:
    return {storage.id for storage in cluster.storages}


@pytest.fixture
def copies(small: SmallCluster, tmp_path: Path) -> Path:
    """What stock repozo restores of the first set."""
    cluster = small.cluster()
    back_up(cluster)
    folder = tmp_path / "copies"
    folder.mkdir()
    for storage in cluster.storages:
        repository = cluster.backup.directory / "storages" / storage.id
        repozo("-R", "-r", repository, "-o", folder / storage.id)
    return folder


def test_all_files_put_back_by_stock_repozo(
    small: SmallCluster, copies: Path, tmp_path: Path
) -> None:
    cluster = small.cluster()
    small.write(2, 6)
    lost, lost_ends = clock.now(), ends(cluster)
    small.write(3, 2)
    back_up(cluster)
    small.stop()
    restore_by_hand(cluster, copies, all_ids(cluster))
    small.start()
    small.write(4, 5)
    made = back_up(cluster)
    assert made.point.timeline == 2 and made.point.verified
    assert timelines.known_timeline(cluster) == 2
    (entry,) = [
        entry
        for entry in journal.read_but_old_points(cluster.daemon.journal)
        if isinstance(entry, Timeline)
    ]
    assert entry.number == 2
    small.write(5, 3)
    later, later_ends = clock.now(), ends(cluster)
    small.write(6, 3)
    assert back_up(cluster).point.timeline == 2
    # On both sides of the restore each moment has its own state.
    assert state_of(cluster, lost, tmp_path / "lost") == lost_ends
    assert state_of(cluster, later, tmp_path / "later") == later_ends


def test_one_file_put_back_is_noticed_and_named(
    small: SmallCluster, copies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = small.cluster()
    small.write(2, 8)
    back_up(cluster)
    small.stop()
    restore_by_hand(cluster, copies, {"catalog"})
    small.start()
    made = back_up(cluster)
    assert made.point.timeline == 2
    said = [text for text in caplog.messages if "timeline 2 begins" in text]
    assert said and "storage catalog" in said[0]
    # The others hold what it lacks now: that is damage, and no secret.
    assert made.point.damage or not made.point.verified


def test_what_lies_beside_is_a_point_that_the_files_still_hold(
    small: SmallCluster, copies: Path
) -> None:
    cluster = small.cluster()
    before = newest_point(cluster)
    small.write(2, 6)
    back_up(cluster)
    small.stop()
    restore_by_hand(cluster, copies, all_ids(cluster))
    small.start()
    small.write(3, 2)
    first = back_up(cluster)
    assert before is not None and first.floor is not None
    assert first.floor.vector == before.vector
    assert first.floor.timeline == 2


def test_nothing_begins_where_nothing_went_back(small: SmallCluster) -> None:
    cluster = small.cluster()
    for seed in (2, 3):
        small.write(seed, 3)
        assert back_up(cluster).point.timeline == 1
    small.stop()
    small.start()
    assert back_up(cluster).point.timeline == 1


def test_what_one_file_lacks_by_now_is_damage_also_beside_a_daemon(
    small: SmallCluster, copies: Path, tmp_path: Path
) -> None:
    """The daemon's first barrier after it covers what is torn, and is no floor."""
    cluster = small.cluster()
    storages = "".join(
        f"<storage {storage.id}>\n"
        f"server {address_text(cluster.zeo(storage.zeo).address)}\n"
        f"path {storage.data_file}\n</storage>\n"
        for storage in cluster.storages
    )
    configuration = tmp_path / "observed.conf"
    configuration.write_text(f"burst-period 1\n{storages}")
    # It has the cluster's own TID log and journal.
    daemon = DaemonProcess(tmp_path, "-c", configuration)
    assert daemon.journal == cluster.daemon.journal
    with contextlib.ExitStack() as stack:
        daemon.start()
        stack.callback(daemon.kill)
        peer = daemon.peer()
        wait_until(peer.dump, "the bootstrap")
        small.write(2, 8, group=["catalog", "documents"])
        wait_until(lambda: peer.dump() == ends(cluster), "the point covers all")
        small.stop()
        restore_by_hand(cluster, copies, {"catalog"})
        small.start()
        wait_until(
            lambda: timelines.known_timeline(cluster) == 2, "the daemon has noticed it"
        )
        small.write(3, 4)
        wait_until(peer.dump, "a point of the new timeline")
        made = back_up(cluster)
    assert made.point.timeline == 2
    torn = {name for half in made.point.damage for name in half.missing}
    assert torn == {"catalog"} and len(made.point.damage) == 8


def test_notes_that_were_put_back_with_the_files_hide_nothing(
    small: SmallCluster, copies: Path, tmp_path: Path
) -> None:
    """As by a snapshot of all but the backup directory."""
    cluster = small.cluster()
    note = known_files.record_path(cluster)
    shutil.copy2(note, tmp_path / "note")
    points = {
        storage.id: point_path(storage.data_file).read_bytes()
        for storage in cluster.storages
    }
    small.write(2, 6)
    back_up(cluster)
    small.stop()
    restore_by_hand(cluster, copies, all_ids(cluster))
    shutil.copy2(tmp_path / "note", note)
    for storage in cluster.storages:
        point_path(storage.data_file).write_bytes(points[storage.id])
    small.start()
    small.write(3, 3)
    assert back_up(cluster).point.timeline == 2


def test_accepting_a_file_is_not_accepting_what_it_tears(
    small: SmallCluster, copies: Path
) -> None:
    cluster = small.cluster()
    small.write(2, 8, group=["catalog", "documents"])
    back_up(cluster)
    small.stop()
    restore_by_hand(cluster, copies, {"catalog"})
    assert accept_files(cluster, ["catalog"]) == 2
    small.start()
    small.write(3, 4)
    made = back_up(cluster)
    assert made.point.timeline == 2
    assert {name for half in made.point.damage for name in half.missing} == {"catalog"}
