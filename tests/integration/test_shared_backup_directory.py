"""Several sites name one backup directory: none harms what another has there."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_sets import with_backup
from small_cluster import SmallCluster, small_cluster

from tidstorage.cluster.cluster import Cluster, Retention
from tidstorage.errors import BackupDirectoryLost, Locked, NotDecided, OtherHistory
from tidstorage.operation import lock
from tidstorage.processes import control
from tidstorage.sets import history, marker
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.pack.pack import pack
from tidstorage.verbs.prune.prune import prune
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere, restore_in_place
from tidstorage.verbs.status.status import status

pytestmark = pytest.mark.integration
ONE = Retention(keep_full=1)


def described(site: SmallCluster, directory: Path) -> Cluster:
    cluster = with_backup(site.cluster(), directory=directory)
    return dataclasses.replace(cluster, retention=ONE)


@pytest.fixture
def first(tmp_path: Path) -> Iterator[SmallCluster]:
    with small_cluster(tmp_path / "first") as site:
        site.write(1, 4)
        yield site


@pytest.fixture
def made(first: SmallCluster, tmp_path: Path) -> Cluster:
    """The first cluster, which has backed up twice."""
    cluster = described(first, tmp_path / "backups")
    back_up(cluster)
    first.write(2, 2)
    back_up(cluster)
    return cluster


@contextlib.contextmanager
def copy(first: SmallCluster, made: Cluster, tmp_path: Path) -> Iterator[SmallCluster]:
    """The first site's folder, copied while it stands still, and started."""
    first.stop()
    shutil.copytree(first.folder, tmp_path / "copy")
    first.start()
    for left in (tmp_path / "copy").rglob("*.lock"):
        left.unlink()
    with small_cluster(tmp_path / "copy") as site:
        yield site


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != lock.FILE_NAME
    }


def assert_refused(cluster: Cluster, match: str) -> None:
    """No verb that would change the directory does."""
    before = contents(cluster.backup.directory)
    for verb in (
        lambda: back_up(cluster),
        lambda: prune(cluster),
        lambda: pack(cluster, 0, gc_is_off=True),
    ):
        with pytest.raises(OtherHistory, match=match) as caught:
            verb()
        assert "[backup]" in caught.value.hint
    assert contents(cluster.backup.directory) == before


def test_another_cluster_of_the_same_name_is_refused(
    made: Cluster, tmp_path: Path
) -> None:
    with small_cluster(tmp_path / "second") as second:
        second.write(3, 3)
        other = described(second, made.backup.directory)
        assert other.name == made.name
        assert_refused(other, "has never backed up to it")
        # Once it has a history of its own, from elsewhere.
        back_up(described(second, tmp_path / "its-own"))
        assert_refused(other, "holds the backups of another cluster")
        with pytest.raises(OtherHistory, match="another cluster"):
            restore_elsewhere(other, Request(), tmp_path / "into")
        assert "another cluster" in str(status(other).no_sets)
        with pytest.raises(OtherHistory, match="do not go on from those backups"):
            back_up(other, adopt=True)


def test_a_copy_of_the_site_is_refused_and_the_original_is_not(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    with copy(first, made, tmp_path) as site:
        other = described(site, made.backup.directory)
        assert history.read(other) == history.read(made)
        assert_refused(other, "is a copy of that site")
        # To read is no harm: a copy is brought up to date like that.
        restore_elsewhere(other, Request(), tmp_path / "into")
        back_up(made)
        prune(made)


def test_a_copy_takes_over_where_it_is_told_to(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    with copy(first, made, tmp_path) as site:
        other = described(site, made.backup.directory)
        back_up(other, adopt=True)
        back_up(other)
        assert_refused(made, "is a copy of that site")


def test_a_copy_that_lacks_what_is_backed_up_does_not_take_over(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    with copy(first, made, tmp_path) as site:
        first.write(5, 3)
        back_up(made)
        other = described(site, made.backup.directory)
        with pytest.raises(OtherHistory, match="do not go on from those backups"):
            back_up(other, adopt=True)


def test_a_site_that_was_moved_is_the_same(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    first.stop()
    first.folder.rename(tmp_path / "moved")
    with small_cluster(tmp_path / "moved") as site:
        moved = described(site, made.backup.directory)
        back_up(moved)
        content = marker.read_in(made.backup.directory)
        assert content and content.site
        assert content.site.directory == tmp_path / "moved"


def test_an_older_directory_without_an_identity_is_taken_by_whom_it_is_of(
    made: Cluster, tmp_path: Path
) -> None:
    path = made.backup.directory / marker.FILE_NAME
    former = marker.Marker.model_validate_json(path.read_text())
    old = marker.Marker(version=1, cluster=former.cluster, id=former.id)
    path.write_text(old.model_dump_json(include={"version", "cluster", "id"}))
    with small_cluster(tmp_path / "second") as second:
        second.write(3, 3)
        assert_refused(
            described(second, made.backup.directory), "has never backed up to it"
        )
    back_up(made)
    assert BackupDirectory(made.backup.directory).history == history.read(made)


def test_two_that_begin_at_once_do_not_share(tmp_path: Path) -> None:
    """Both saw no marker; the one whose marker was replaced is told."""
    with (
        small_cluster(tmp_path / "one") as one,
        small_cluster(tmp_path / "two") as two,
    ):
        directory = tmp_path / "backups"
        clusters = [described(site, directory) for site in (one, two)]
        one.write(1, 2)
        two.write(2, 2)
        BackupDirectory.begin(clusters[0])
        (directory / marker.FILE_NAME).unlink()
        marker.note_path(clusters[0]).rename(tmp_path / "aside")
        BackupDirectory.begin(clusters[1])
        (tmp_path / "aside").rename(marker.note_path(clusters[0]))
        with pytest.raises(BackupDirectoryLost):
            back_up(clusters[0])
        back_up(clusters[1])


def test_a_run_of_another_host_on_the_directory_is_waited_for(made: Cluster) -> None:
    with lock.hold_file(made.backup.directory / lock.FILE_NAME, "backup"):
        for verb in (lambda: back_up(made), lambda: prune(made)):
            with pytest.raises(Locked, match="backup"):
                verb()


def test_a_new_machine_is_asked_and_restores_without_more(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    first.stop()
    new = SmallCluster(tmp_path / "new")
    cluster = described(new, made.backup.directory)
    for begin in (lambda: control.make_plan(cluster), lambda: control.start(cluster)):
        with pytest.raises(NotDecided, match="restore it, or begin anew") as caught:
            begin()
        assert "bin/cluster restore" in caught.value.hint
        assert "bin/cluster init --begin-anew" in caught.value.hint
    restore_in_place(cluster, Request())
    assert history.read(cluster) == history.read(made)
    control.make_plan(cluster)
    try:
        new.start()
        assert_refused(cluster, "has never backed up to it|is a copy of that site")
        assert back_up(cluster, adopt=True).point.timeline == 2
    finally:
        new.kill()


def test_a_new_machine_may_begin_anew(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    new = SmallCluster(tmp_path / "new")
    cluster = described(new, made.backup.directory)
    history.establish(cluster)
    control.make_plan(cluster, ["alpha", "beta"])
    try:
        new.start()
        new.write(1, 2)
        assert_refused(cluster, "another cluster")
    finally:
        new.kill()


def test_a_restore_brings_another_clusters_state_where_it_is_told_to(
    first: SmallCluster, made: Cluster, tmp_path: Path
) -> None:
    with small_cluster(tmp_path / "second") as second:
        second.write(3, 3)
        back_up(described(second, tmp_path / "its-own"))
        second.stop()
        other = described(second, made.backup.directory)
        with pytest.raises(OtherHistory, match="another cluster"):
            restore_in_place(other, Request())
        restore_in_place(other, Request(adopt=True))
        assert history.read(other) == history.read(made)
