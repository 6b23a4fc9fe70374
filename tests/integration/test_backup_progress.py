"""How far a backup and a restore are, for those who wait for them."""

import argparse
import json

import pytest
from real_processes import wait_until
from small_cluster import small_cluster

from tidstorage.commands import backup, restore
from tidstorage.commands import status as status_command
from tidstorage.operation import parallel
from tidstorage.verbs.backup import copying
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
)
from tidstorage.verbs.status import status

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path):
    with small_cluster(tmp_path) as running:
        running.write(1, 6)
        yield running


def phases(seen):
    """{phase: the last that was told of it}, in their order."""
    return {each.phase: each for each in seen if each.phase}


def test_every_byte_of_a_backup_is_counted(small):
    cluster = small.cluster(compress=True)
    seen = []
    back_up(cluster, seen.append)
    found = phases(seen)
    sizes = sum(each.data_file.stat().st_size for each in cluster.storages)
    assert (found["copy"].done, found["copy"].total) == (sizes, sizes)
    assert found["compare"].total == 0
    blobs = small.beta.blob_directory("documents").rglob("*.blob")
    size = sum(each.stat().st_size for each in blobs)
    assert size
    assert (found["copy blobs"].done, found["copy blobs"].total) == (size, size)
    assert {each.verb for each in seen} == {"backup"}
    # The next one compares what the last one copied, and copies what is new.
    small.write(2, 5, group=["catalog", "documents", "root"])
    again = []
    back_up(cluster, again.append)
    found = phases(again)
    assert (found["compare"].done, found["compare"].total) == (sizes, sizes)
    more = sum(each.data_file.stat().st_size for each in cluster.storages) - sizes
    assert (found["copy"].done, found["copy"].total) == (more, more)


def test_a_second_shell_sees_how_far_it_is(small, monkeypatch, capsys):
    cluster = small.cluster(jobs=1)
    real, said = copying._copy_one, []

    def copy_and_look(preparation, source, *rest):
        copied = real(preparation, source, *rest)
        if source is not None and source.storage.id == "catalog":
            size = source.end

            def seen():
                found = status.status(cluster).operations
                return [each for each in found if each.done == size]

            (operation,) = wait_until(seen, "status sees it")
            assert (operation.verb, operation.phase) == ("backup", "copy")
            assert operation.items == ("catalog",)
            status_command.run(argparse.Namespace(json=False), cluster)
            said.append(capsys.readouterr().out)
        return copied

    monkeypatch.setattr(copying, "_copy_one", copy_and_look)
    back_up(cluster)
    assert "backup: copy catalog; " in said[0]
    assert status.status(cluster).operations == ()


def test_one_that_fails_ends_the_others(small, monkeypatch):
    cluster = small.cluster(jobs=3)
    real, abandoned = copying._copy_one, []

    def fail_or_go_on(preparation, source, former_index, advance, check):
        if source.storage.id == "catalog":
            raise OSError(5, "Input/output error")
        try:
            while True:
                check()
        except parallel.Abandoned:
            abandoned.append(source.storage.id)
            raise

    monkeypatch.setattr(copying, "_copy_one", fail_or_go_on)
    with pytest.raises(Exception, match="Input/output error"):
        back_up(cluster)
    assert set(abandoned) <= {"documents", "root"}
    monkeypatch.setattr(copying, "_copy_one", real)
    assert back_up(cluster).kind == "full"


def test_every_byte_of_a_restore_is_counted(small):
    cluster = small.cluster(compress=True)
    made = back_up(cluster)
    seen = []
    restore_elsewhere(cluster, Request(), small.folder / "restored", seen.append)
    found = phases(seen)
    size = sum(each.size for each in made.storages)
    assert (found["copy"].done, found["copy"].total) == (size, size)
    size = sum(each.blob_bytes for each in made.storages)
    assert (found["copy blobs"].done, found["copy blobs"].total) == (size, size)
    assert {each.verb for each in seen} == {"restore"}


def objects(text):
    """What the lines tell that are no warnings."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_each_verb_tells_it_in_lines_of_json(small, capsys):
    cluster = small.cluster()
    parser = argparse.ArgumentParser()
    backup.add_arguments(parser)
    backup.run(parser.parse_args(["--json", "--progress", "json"]), cluster)
    said = capsys.readouterr()
    assert json.loads(said.out)["cluster"] == "small"
    lines = objects(said.err)
    assert {each["phase"] for each in lines} >= {"compare", "copy", "copy blobs"}
    parser = argparse.ArgumentParser()
    restore.add_arguments(parser)
    into = ["--into", str(small.folder / "restored")]
    restore.run(parser.parse_args(["--json", "--progress", "json", *into]), cluster)
    said = capsys.readouterr()
    assert json.loads(said.out)["storages"]
    lines = objects(said.err)
    assert {each["phase"] for each in lines} >= {"copy", "copy blobs"}
    assert {each["verb"] for each in lines} == {"restore"}
