"""A Data.fs whose bulk is holes: nowhere does it need the room it seems to take."""

import filecmp
import shutil
import types

import pytest
import sparse_files
from small_cluster import SmallCluster

from tidstorage.errors import NoSpace
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
)

pytestmark = pytest.mark.integration

#: benchmarks/sparse.py does it with 50 GB.
COUNT, SIZE = 16, 32 << 20
#: What else is in the files and the folders.
LITTLE = 8 << 20


@pytest.fixture
def small(tmp_path):
    found = SmallCluster(tmp_path)
    sparse_files.write(found.alpha.data_file("catalog"), COUNT, SIZE)
    try:
        found.start()
        yield found
    finally:
        found.kill()


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
def test_it_is_backed_up_and_restored_as_it_is(small, compress, monkeypatch):
    cluster = small.cluster(compress=compress)
    source = small.alpha.data_file("catalog")
    assert source.stat().st_size > COUNT * SIZE > 50 * sparse_files.taken(source)
    back_up(cluster)
    assert sparse_files.taken(cluster.backup.directory) < LITTLE
    # There is no room for a second one that is not as sparse.
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda _path: types.SimpleNamespace(free=COUNT * SIZE // 2),
    )
    into = small.folder / "into"
    restore_elsewhere(cluster, Request(), into)
    restored = into / "catalog" / "Data.fs"
    assert sparse_files.taken(into) < LITTLE
    assert restored.stat().st_size == source.stat().st_size
    if compress:
        assert sparse_files.zeros_in(restored) == COUNT * SIZE
    else:
        assert filecmp.cmp(source, restored, shallow=False)
    # And room is asked for where it will be needed.
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _path: types.SimpleNamespace(free=COUNT * 1_000)
    )
    with pytest.raises(NoSpace):
        restore_elsewhere(cluster, Request(), small.folder / "no-room")
