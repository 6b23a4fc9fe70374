"""A run of a command reads each manifest from disk once, however often it asks."""

import argparse
from collections import Counter

import pytest
from backup_sets import sets_over_time
from small_cluster import small_cluster

from tidstorage.cluster.cluster import Retention
from tidstorage.commands import backups
from tidstorage.sets import manifest
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.moments.listed_points import list_points_and_ranges
from tidstorage.verbs.prune.prune import prune
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    preview_in_place,
    restore_elsewhere,
    restore_in_place,
)
from tidstorage.verbs.status.status import status
from tidstorage.verbs.verify import verify

pytestmark = pytest.mark.integration


@pytest.fixture
def reads(monkeypatch):
    """{name of a set's folder: how often its manifest was read since the start}."""
    counted = Counter()
    original = manifest.read

    def read(path):
        counted[path.parent.name] += 1
        return original(path)

    monkeypatch.setattr(manifest, "read", read)
    return counted


@pytest.fixture
def cluster(tmp_path):
    return sets_over_time().cluster(tmp_path)


def verbs(cluster, tmp_path):
    point = sets_over_time().made[1].point
    yield "status", lambda: status(cluster)
    yield "points", lambda: list_points_and_ranges(cluster)
    yield "backups", lambda: backups.run(argparse.Namespace(json=True), cluster)
    for depth in ("sizes", "digests"):
        request = verify.VerifyRequest("all", depth)
        yield f"verify {depth}", lambda asked=request: verify.verify(cluster, asked)
    yield "restore --dry-run", lambda: preview_in_place(cluster, Request())
    yield (
        "restore --to --dry-run",
        lambda: preview_in_place(cluster, Request(moment=point.time)),
    )
    yield "restore", lambda: restore_in_place(cluster, Request(reuse=True))
    into = tmp_path / "into"
    yield "restore --into", lambda: restore_elsewhere(cluster, Request(), into)
    yield "prune", lambda: prune(cluster, Retention(keep_full=1))


def test_each_manifest_is_read_once_in_a_run(cluster, reads, tmp_path, capsys):
    made = [each.id for each in sets_over_time().made]
    for name, verb in verbs(cluster, tmp_path):
        reads.clear()
        verb()
        assert max(reads.values()) == 1, (name, reads)
        assert reads.keys() <= {*made}, name


def test_a_backup_reads_each_manifest_once(tmp_path, reads):
    with small_cluster(tmp_path) as small:
        small.write(1, 3)
        cluster = small.cluster()
        first = back_up(cluster)
        small.write(2, 3)
        back_up(cluster)
        assert reads == {first.id: 1}
