"""The identity of a history, and of the site that it lives at."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidstorage.errors import FileUnreadable, OtherHistory
from tidstorage.sets import history, marker
from tidstorage.sets.history import Site


def described(folder: Path) -> Any:
    """As much of a cluster as is asked for, with files of storages a and b."""
    storages = []
    for name in ("a", "b"):
        data_file = folder / name / "Data.fs"
        data_file.parent.mkdir(parents=True, exist_ok=True)
        data_file.write_bytes(b"FS30")
        storages.append(SimpleNamespace(id=name, aliases=(), data_file=data_file))
    (folder / "tidstorage").mkdir(exist_ok=True)
    return SimpleNamespace(
        name="site",
        directory=folder,
        file=folder / "cluster.toml",
        storages=storages,
        daemon=SimpleNamespace(tid_log=folder / "tidstorage/tid.log"),
        backup=SimpleNamespace(directory=folder / "backup"),
    )


def test_is_made_once_and_kept_everywhere(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    assert history.read(cluster) is None
    made = history.establish(cluster)
    assert history.establish(cluster) == made == history.read(cluster)
    assert len(made) == 32 and int(made, 16)
    stored = json.loads(history.history_path(cluster).read_text())
    assert stored.keys() == {"version", "history", "begun"}
    assert stored["version"] == 1 and stored["history"] == made
    beside = tmp_path / "a/Data.fs.history"
    assert json.loads(beside.read_text()) == {
        "version": 1,
        "history": made,
        "storage": "a",
    }


def test_two_are_never_the_same(tmp_path: Path) -> None:
    first = history.establish(described(tmp_path / "one"))
    assert first != history.establish(described(tmp_path / "two"))


def test_files_tell_it_where_the_rest_is_lost(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    made = history.establish(cluster)
    history.history_path(cluster).unlink()
    assert history.read(cluster) == made
    history.establish(cluster)
    assert history.history_path(cluster).exists()


def test_files_of_two_histories_tell_nothing(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    history.establish(cluster)
    history.history_path(cluster).unlink()
    path = tmp_path / "b/Data.fs.history"
    path.write_text(path.read_text().replace('"history": "', '"history": "f'))
    with pytest.raises(OtherHistory, match="several histories"):
        history.read(cluster)


def test_a_broken_file_is_an_error_and_no_new_history(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    history.establish(cluster)
    history.history_path(cluster).write_text("{")
    with pytest.raises(FileUnreadable, match="is not the id of a history"):
        history.read(cluster)


def test_another_storages_or_clusters_file_is_refused(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    history.establish(cluster)
    history.refuse_others_files(cluster)
    first, second = (tmp_path / name / "Data.fs.history" for name in "ab")
    kept = second.read_text()
    second.write_text(first.read_text())
    with pytest.raises(OtherHistory, match="was the file of storage a"):
        history.refuse_others_files(cluster)
    cluster.storages[1].aliases = ("a",)
    history.refuse_others_files(cluster)
    cluster.storages[1].aliases = ()
    second.write_text(kept.replace('"history": "', '"history": "f'))
    with pytest.raises(OtherHistory, match="and this cluster of"):
        history.refuse_others_files(cluster)


SITE = Site("host", "", Path("/srv/a"), 7)


@pytest.mark.parametrize(
    "other, same",
    [
        (Site("host", "", Path("/srv/a"), 7), True),
        # Moved within a disk; a container with another host name.
        (Site("host", "", Path("/srv/b"), 7), True),
        (Site("other", "", Path("/srv/a"), 7), True),
        # Brought back to its place from a file backup.
        (Site("host", "", Path("/srv/a"), 8), True),
        # Copied on its machine, or to the same place of another one.
        (Site("host", "", Path("/srv/b"), 8), False),
        (Site("other", "", Path("/srv/a"), 8), False),
    ],
)
def test_a_copy_is_another_site(other: Site, same: bool) -> None:
    assert SITE.is_same(other) == other.is_same(SITE) == same


def test_another_machine_is_another_site_unless_all_else_is_the_same() -> None:
    one = Site("host", "1", Path("/srv/a"), 7)
    assert not one.is_same(Site("host", "2", Path("/srv/b"), 7))
    assert not one.is_same(Site("host", "2", Path("/srv/a"), 8))
    # A container that was made anew.
    assert one.is_same(Site("host", "2", Path("/srv/a"), 7))
    assert one.is_same(SITE)


class TestMarker:
    """What is in a backup directory, by its versions."""

    def test_of_now(self, tmp_path: Path) -> None:
        cluster = described(tmp_path)
        cluster.backup.directory.mkdir()
        made = marker.mark(cluster)
        stored = json.loads((tmp_path / "backup" / marker.FILE_NAME).read_text())
        assert stored["history"] == made == history.read(cluster)
        assert stored.keys() == {
            *("version", "cluster", "id", "history", "site", "inode")
        }
        assert stored["site"]["directory"] == str(tmp_path)

    def test_of_before(self, tmp_path: Path) -> None:
        cluster = described(tmp_path)
        cluster.backup.directory.mkdir()
        path = tmp_path / "backup" / marker.FILE_NAME
        path.write_text('{"version": 1, "cluster": "site", "id": "x"}')
        with pytest.raises(OtherHistory, match="has never backed up to it"):
            marker.refuse_to_change(cluster)
        note = {"version": 1, "directories": {str(cluster.backup.directory): "x"}}
        marker.note_path(cluster).write_text(json.dumps(note))
        marker.refuse_to_change(cluster)
        made = marker.mark(cluster)
        assert json.loads(path.read_text())["id"] == "x"
        assert json.loads(path.read_text())["history"] == made
