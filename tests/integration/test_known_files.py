"""A Data.fs that is gone, emptied, replaced or put back is noticed before its use."""

import argparse
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backup_sets import with_backup
from small_cluster import SmallCluster, small_cluster
from ZEO.scripts import zeopack

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import status as status_command
from tidstorage.daemon import start
from tidstorage.daemon.settings import ObservedStorage, Settings
from tidstorage.errors import ClusterRunning, DataFileLost, OtherHistory
from tidstorage.points import journal, known_files, timelines
from tidstorage.points.entries import Timeline
from tidstorage.processes import control
from tidstorage.processes.accept_files import accept_files
from tidstorage.processes.before_serving import mend_files
from tidstorage.sets import history
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.damage import rebase
from tidstorage.verbs.pack.pack import pack
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_in_place
from tidstorage.verbs.status.status import status

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallCluster]:
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


@pytest.fixture
def cluster(small: SmallCluster) -> Cluster:
    made = small.cluster()
    back_up(made)
    return made


def states(cluster: Cluster) -> dict[str, str]:
    found = known_files.examine(known_files.record_path(cluster), cluster.storages)
    return {one.storage.id: one.state for one in found}


def settings(cluster: Cluster) -> Settings:
    """Of a daemon that observes this cluster."""
    return Settings(
        tid_log=cluster.daemon.tid_log,
        storages=tuple(
            ObservedStorage(
                storage.id,
                cluster.zeo(storage.zeo).address,
                storage.id,
                data_file=storage.data_file,
            )
            for storage in cluster.storages
        ),
    )


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    """As where its disk is not mounted: nothing of the file is there."""
    for beside in path.parent.glob(f"{path.name}*"):
        beside.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"FS30")


def begin_anew(path: Path) -> None:
    """As a server does that finds no file, once somebody wrote."""
    path.unlink()
    path.with_name(path.name + ".index").unlink(missing_ok=True)
    script = (
        "import sys, ZODB, transaction; from ZODB.FileStorage import FileStorage\n"
        "db = ZODB.DB(FileStorage(sys.argv[1])); c = db.open(); c.root()['a'] = 1\n"
        "transaction.commit(); db.close()"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)


def cut_short(path: Path) -> None:
    """Amid a transaction, as a disk does that lost its end."""
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 60)


@pytest.mark.parametrize(
    "harm",
    [remove, remove_folder, empty, begin_anew, cut_short],
    ids=lambda f: f.__name__,
)
def test_a_lost_file_is_refused_by_all_that_would_use_it(
    small: SmallCluster, cluster: Cluster, harm: Callable[[Path], None]
) -> None:
    small.stop()
    path = cluster.storage("catalog").data_file
    harm(path)
    before = sorted(path.parent.iterdir())
    for use in (
        lambda: control.make_plan(cluster),
        lambda: control.restart(cluster),
        lambda: mend_files(cluster, "alpha", lambda _words: None),
        lambda: back_up(cluster),
        lambda: pack(cluster, 0, gc_is_off=True),
        lambda: start.start(settings(cluster)),
    ):
        with pytest.raises(DataFileLost, match=f"storage catalog: {path}") as caught:
            use()
        assert "--accept-new catalog" in caught.value.hint
    assert sorted(path.parent.iterdir()) == before
    assert any(str(path) in words for words in status(cluster).alarms)
    said = status_command.run(argparse.Namespace(json=True), cluster)
    assert said == DataFileLost.exit_status
    # The other server's files are as they were.
    mend_files(cluster, "beta", lambda _words: None)


def test_a_blob_directory_that_is_gone_is_refused(
    small: SmallCluster, cluster: Cluster
) -> None:
    small.stop()
    directory = cluster.storage("documents").blob_directory
    shutil.move(directory, directory.with_name("elsewhere"))
    directory.mkdir()
    with pytest.raises(DataFileLost, match="was its blob directory"):
        mend_files(cluster, "beta", lambda _words: None)
    with pytest.raises(DataFileLost, match="was its blob directory"):
        control.make_plan(cluster)


def test_files_of_two_storages_that_changed_places_are_refused(
    small: SmallCluster, cluster: Cluster
) -> None:
    small.stop()
    storages = {storage.id: storage for storage in cluster.storages}
    catalog, root = storages["catalog"], storages["root"]
    edited = dataclasses.replace(
        cluster,
        storages=(
            dataclasses.replace(catalog, data_file=root.data_file),
            dataclasses.replace(root, data_file=catalog.data_file),
            storages["documents"],
        ),
    )
    with pytest.raises(OtherHistory, match="was the file of storage root"):
        control.make_plan(edited)
    with pytest.raises(OtherHistory, match="was the file of storage root"):
        back_up(edited)


def test_a_file_that_was_moved_is_the_same(
    small: SmallCluster, cluster: Cluster, tmp_path: Path
) -> None:
    small.stop()
    moved = tmp_path / "other-disk/Data.fs"
    moved.parent.mkdir()
    cluster.storage("catalog").data_file.rename(moved)
    edited = dataclasses.replace(
        cluster,
        storages=tuple(
            dataclasses.replace(storage, data_file=moved)
            if storage.id == "catalog"
            else storage
            for storage in cluster.storages
        ),
    )
    assert set(states(edited).values()) == {"same"}


def test_a_pack_by_anybody_leaves_the_same_file(
    small: SmallCluster, cluster: Cluster
) -> None:
    small.write(2, 4)
    host, port = small.alpha.address
    zeopack.main(["-h", host, "-p", str(port), "-S", "catalog", "-d", "0"])
    assert set(states(cluster).values()) == {"same"}
    back_up(cluster)
    assert set(states(cluster).values()) == {"same"}


def test_what_went_back_is_noticed_and_begins_a_timeline_once_accepted(
    small: SmallCluster, cluster: Cluster, tmp_path: Path
) -> None:
    path = cluster.storage("catalog").data_file
    shutil.copy2(path, tmp_path / "earlier")
    small.write(2, 6)
    back_up(cluster)
    small.stop()
    shutil.copy2(tmp_path / "earlier", path)
    path.with_name("Data.fs.index").unlink(missing_ok=True)
    with pytest.raises(DataFileLost, match="was put back to a former state"):
        control.make_plan(cluster)
    warned: list[str] = []
    mend_files(cluster, "alpha", warned.append)
    assert any("was put back to a former state" in words for words in warned)
    assert accept_files(cluster, ["catalog"]) == 2
    control.make_plan(cluster)
    assert timelines.known_timeline(cluster) == 2
    assert any(
        isinstance(entry, Timeline) and entry.number == 2
        for entry in journal.read_but_old_points(cluster.daemon.journal)
    )
    small.start()
    small.write(3, 3)
    assert back_up(cluster).point.timeline == 2


def test_a_file_is_accepted_only_while_nothing_runs(
    small: SmallCluster, cluster: Cluster
) -> None:
    with pytest.raises(ClusterRunning):
        accept_files(cluster, ["catalog"])


def test_an_empty_file_is_served_once_it_is_accepted(
    small: SmallCluster, cluster: Cluster
) -> None:
    small.stop()
    remove(cluster.storage("catalog").data_file)
    with pytest.raises(DataFileLost):
        mend_files(cluster, "alpha", lambda _words: None)
    accept_files(cluster, ["catalog"])
    mend_files(cluster, "alpha", lambda _words: None)


def test_a_rebase_accepts_what_servers_serve_already(
    small: SmallCluster, cluster: Cluster
) -> None:
    small.stop()
    begin_anew(cluster.storage("catalog").data_file)
    small.start()
    with pytest.raises(DataFileLost):
        back_up(cluster)
    assert rebase.rebase(cluster).floor.timeline == 2
    assert set(states(cluster).values()) == {"same"}
    assert back_up(cluster).point.timeline == 2


def test_a_restore_of_ours_brings_lost_files_back(
    small: SmallCluster, cluster: Cluster
) -> None:
    small.write(2, 4)
    known_files.note(cluster)
    small.stop()
    for storage in cluster.storages:
        remove_folder(storage.data_file)
    with pytest.raises(DataFileLost):
        control.make_plan(cluster)
    restore_in_place(cluster, Request())
    control.make_plan(cluster)
    small.start()
    back_up(cluster)


def test_what_was_with_the_tid_log_may_be_lost(
    small: SmallCluster, cluster: Cluster
) -> None:
    before = history.read(cluster)
    history.history_path(cluster).unlink()
    known_files.record_path(cluster).unlink()
    assert history.read(cluster) == before is not None
    made = back_up(cluster)
    assert made.history == before
    assert history.history_path(cluster).exists()
    assert set(states(cluster).values()) == {"same"}


def test_the_first_run_of_a_cluster_of_before_changes_nothing_else(
    small: SmallCluster,
) -> None:
    cluster = with_backup(small.cluster())
    assert set(states(cluster).values()) == {"new"}
    first = back_up(cluster)
    assert first.history == history.read(cluster)
    assert back_up(cluster).history == first.history


@pytest.mark.parametrize("known", [True, False], ids=["known", "never seen"])
def test_no_server_is_let_loose_on_blobs_without_their_data_file(
    small: SmallCluster, cluster: Cluster, known: bool
) -> None:
    """It would make a new Data.fs, and delete them all."""
    small.write(2, 6, group=["documents"])
    small.stop()
    storage = cluster.storage("documents")
    assert storage.blob_directory is not None
    blobs = sorted(storage.blob_directory.rglob("*.blob"))
    remove_folder(storage.data_file)
    if not known:
        known_files.record_path(cluster).unlink()
    for begin in (
        lambda: mend_files(cluster, "beta", lambda _words: None),
        lambda: control.make_plan(cluster),
        lambda: accept_files(cluster, ["documents"]),
    ):
        with pytest.raises(DataFileLost):
            begin()
    with pytest.raises(DataFileLost, match="delete them all"):
        known_files.refuse_blobs_without_data(cluster.storages)
    assert sorted(storage.blob_directory.rglob("*.blob")) == blobs != []
