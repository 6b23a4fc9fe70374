"""Packs with real servers, under load, cut off, and made by others."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import records
import ZODB
from backup_sets import backup_directory
from dying import in_child
from persistent.mapping import PersistentMapping
from real_processes import PATIENCE, ZeoServer, wait_until, zeo_server
from small_cluster import small_cluster
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData

from tidstorage.cluster import pack_files
from tidstorage.commands import pack as pack_verb
from tidstorage.deployment import supervision
from tidstorage.engines import filestorage
from tidstorage.errors import (
    EngineFailed,
    FloorNeeded,
    Locked,
    NoSpace,
    NotCoherent,
    PackUnsafe,
)
from tidstorage.operation import lock, pack_note, results
from tidstorage.points import known_files
from tidstorage.points.beside import point_path
from tidstorage.system import disks
from tidstorage.verbs.backup import complete, packs_by_others
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.damage.rebase import rebase
from tidstorage.verbs.pack import garbage, server_options, times
from tidstorage.verbs.pack import pack as perform
from tidstorage.verbs.pack.pack import pack
from tidstorage.verbs.pack.plan import plan, refuse_the_impossible
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    restore_elsewhere,
)
from tidstorage.zeo import packing

pytestmark = pytest.mark.integration
ALL = ["catalog", "documents", "root"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with small_cluster(tmp_path_factory.mktemp("small")) as running:
        running.write(1, 6, group=ALL)
        yield running


@pytest.fixture
def cluster(small, tmp_path):
    found = small.cluster()
    daemon = dataclasses.replace(
        found.daemon, tid_log=tmp_path / "tidlog", journal=tmp_path / "journal"
    )
    backup = dataclasses.replace(found.backup, directory=tmp_path / "backup")
    made = dataclasses.replace(found, daemon=daemon, backup=backup)
    # What writers that former tests killed have torn is no matter of this one.
    rebase(made)
    for storage in made.storages:
        point_path(storage.data_file).unlink(missing_ok=True)
    return made


@pytest.fixture
def packable(small, cluster):
    """With something in each storage that a pack removes."""
    small.write(1, 3, group=ALL)
    return cluster


def whole(cluster):
    found = backup_directory(cluster).sets()
    assert all(each.is_whole for each in found)
    return [each.manifest for each in found]


def last_packed(storage):
    return filestorage.packed_above(storage.data_file, 0)


def pack_from_outside(small, storage_id):
    """As zeopack does."""
    address = small.addresses[storage_id]
    with contextlib.closing(ClientStorage(address, storage=storage_id)) as client:
        client.pack(wait=True)


def test_under_load_every_storage_stays_below_its_own_point(
    small, cluster, tmp_path, caplog
):
    told = []
    with small.writer(2, blobs_of=["documents"]), small.writer(3):
        packed = pack(cluster, 0, tell=told.append)
    assert whole(cluster) == [packed.set_after, packed.set_before]
    assert packed.set_after.kind == "full"
    assert "by somebody else" not in caplog.text
    for each in packed.storages:
        assert each.changed
        assert each.plan.below == packed.set_before.point.vector[each.plan.id]
        assert 0 < each.last_packed < each.plan.below
        assert each.last_packed == last_packed(cluster.storage(each.plan.id))
    assert [each.split()[:2] for each in told[1:-1]] == [
        ["packing", each.id] for each in cluster.storages
    ]
    assert not pack_note.note_path(cluster).exists()
    assert results.read(cluster, "pack").good.set == packed.set_after.id
    for made, after in (
        (packed.set_before, {}),
        (packed.set_after, packed.set_before.point.vector),
    ):
        into = tmp_path / made.id
        restore_elsewhere(cluster, Request(set_id=made.id), into)
        # Below the first point partners are gone after the pack.
        content = {
            each: [
                record
                for record in records.read(into / each / "Data.fs")
                if record[0] > after.get(each, 0)
            ]
            for each in ALL
        }
        assert all(content.values())
        assert records.violations(content, dict.fromkeys(ALL, 1 << 63)) == []
    # The live files can be cut at the point of before the pack, and above it.
    small.write(4, 4)
    later = back_up(cluster)
    assert (later.kind, later.point.verified) == ("incremental", True)
    again = pack(cluster, 9)
    assert (again.set_after, [each.changed for each in again.storages]) == (
        None,
        [False] * 3,
    )


def test_what_is_newer_than_the_days_that_are_kept_stays(small, cluster):
    packed = pack(cluster, 1)
    assert packed.set_after is None
    assert not any(each.changed for each in packed.storages)


def test_a_half_commit_stays_where_it_can_be_examined(small, cluster):
    # What the writers of the former test left torn is below its floor.
    rebase(cluster)
    clean = back_up(cluster)
    small.write(4, 1, half=["catalog", "root"])
    small.write(5, 4, group=ALL)
    told = []
    packed = pack(cluster, 0, tell=told.append)
    assert packed.floor == clean.point
    (half,) = packed.set_before.point.damage
    for each in packed.storages:
        assert each.last_packed < clean.point.vector[each.plan.id]
    assert packed.set_after.point.damage == (half,)
    assert any(f"below point {clean.point.id}" in each for each in told)
    # For the tests that follow: accept it.
    for storage in cluster.storages:
        point_path(storage.data_file).unlink()


def test_without_any_point_nothing_is_packed(small, cluster, monkeypatch):
    monkeypatch.setattr(complete, "leave_floor", lambda *_arguments: None)
    before = [each.data_file.stat().st_ino for each in cluster.storages]
    with pytest.raises(FloorNeeded):
        pack(cluster, 0)
    assert before == [each.data_file.stat().st_ino for each in cluster.storages]


def test_a_server_that_packs_too_far_is_found_out(small, packable, monkeypatch):
    """What counts is what the file says, not what was asked for."""
    real = times.seconds_below

    def beyond(kept, not_after):
        return real(kept, not_after) + 5

    monkeypatch.setattr(times, "seconds_below", beyond)
    back_up(packable)
    with pytest.raises(NotCoherent, match="packed too far: catalog to 0x"):
        pack(packable, 0)
    assert whole(packable)[0].kind == "full"
    assert results.read(packable, "pack").last.status == NotCoherent.exit_status


def test_no_room_for_second_files_and_a_full_set_is_said_before(
    small, cluster, monkeypatch
):
    """All of them are on one disk here."""
    made = back_up(cluster)
    inodes = [each.data_file.stat().st_ino for each in cluster.storages]
    for storage in cluster.storages:
        pack_files.old_file_of(storage.data_file).unlink(missing_ok=True)
    sizes = sum(each.data_file.stat().st_size for each in cluster.storages)
    sizes += sum(file.size for storage in made.storages for file in storage.files)
    monkeypatch.setattr(
        disks.shutil, "disk_usage", lambda _path: SimpleNamespace(free=sizes - 1)
    )
    with pytest.raises(NoSpace, match=f"needs {sizes:,}"):
        pack(cluster, 0)
    with pytest.raises(NoSpace):
        plan(cluster, 0)
    assert inodes == [each.data_file.stat().st_ino for each in cluster.storages]


def test_backup_and_pack_exclude_each_other(cluster):
    with lock.hold(cluster, "backup"), pytest.raises(Locked, match="backup \\(process"):
        pack(cluster, 0)


def test_a_pack_from_outside_is_said_once_and_ours_never(small, cluster, caplog):
    made = back_up(cluster)
    small.write(6, 3, group=["root"])
    pack_from_outside(small, "root")
    assert back_up(cluster).storage("root").kind == "full"
    assert f"storage root was packed since set {made.id}" in caplog.text
    assert "by somebody else" in results.read(cluster, "backup").last.warnings[-1]
    caplog.clear()
    back_up(cluster)
    small.write(7, 3, group=ALL)
    pack(cluster, 0)
    back_up(cluster)
    assert "packed since" not in caplog.text
    assert "does not go on" not in caplog.text


def test_a_copy_that_had_to_begin_anew_is_said_too(cluster):
    """Where the file was cut or replaced: no record in it tells of a pack."""
    before, made = back_up(cluster), back_up(cluster)
    assert list(packs_by_others.describe_packs(before, made, started_over=False)) == []
    storages = [
        dataclasses.replace(each, kind="full" if each.id == "root" else each.kind)
        for each in made.storages
    ]
    anew = dataclasses.replace(made, storages=tuple(storages))
    (words,) = packs_by_others.describe_packs(before, anew, started_over=False)
    assert f"storage root does not go on from set {before.id}" in words
    assert list(packs_by_others.describe_packs(before, anew, started_over=True)) == []
    later = dataclasses.replace(made.point, timeline=2)
    other = dataclasses.replace(anew, point=later)
    assert list(packs_by_others.describe_packs(before, other, started_over=False)) == []


def test_we_are_killed_amid_a_pack(small, packable, caplog):
    """The server goes on; whoever backs up next makes the full set."""

    def die_after_the_first(*arguments):
        real(*arguments)
        os._exit(9)

    real = packing.pack

    def child():
        packing.pack = die_after_the_first
        pack(packable, 0)

    assert in_child(child) == 9
    assert results.read(packable, "pack").last.state == "killed"
    assert pack_note.read_note(packable) is not None
    small.write(2, 3, group=ALL)
    made = back_up(packable)
    assert made.kind == "full"
    assert "has not been followed by a full set" in caplog.text
    assert "by somebody else" not in caplog.text
    assert not pack_note.note_path(packable).exists()
    small.write(3, 6, group=ALL)
    assert back_up(packable).kind == "incremental"
    packed = pack(packable, 0)
    assert [each.changed for each in packed.storages] == [True] * 3


def test_the_note_of_a_pack_stays_as_long_as_the_server_packs(
    cluster, monkeypatch, caplog
):
    pack_note.write_note(cluster, {"catalog": 1})
    monkeypatch.setattr(pack_note, "is_packing", lambda _c, each: each.id == "catalog")
    back_up(cluster)
    assert "still being packed by its server: catalog" in caplog.text
    assert pack_note.note_path(cluster).exists()
    monkeypatch.undo()
    pack_note.note_path(cluster).write_text("{")
    assert back_up(cluster).kind == "full"
    assert not pack_note.note_path(cluster).exists()


@contextlib.contextmanager
def vote(small, storage_id):
    """Hold the storage, so that no pack of it comes to its end."""
    client = ClientStorage(small.addresses[storage_id], storage=storage_id)
    metadata = TransactionMetaData()
    client.tpc_begin(metadata)
    client.tpc_vote(metadata)
    try:
        yield
    finally:
        client.close()


def test_the_server_is_killed_amid_a_pack(small, packable, monkeypatch):
    catalog = packable.storage("catalog")
    size = catalog.data_file.stat().st_size
    held = contextlib.ExitStack()
    real = perform._note

    def note_and_vote(*arguments):
        real(*arguments)
        held.enter_context(vote(small, "catalog"))

    monkeypatch.setattr(perform, "_note", note_and_vote)
    failed = []

    def run():
        with pytest.raises(EngineFailed) as caught:
            pack(packable, 0)
        failed.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: pack_note.leftover(catalog), "the pack has begun", 120)
        assert wait_until(lambda: packing.is_packing(packable, catalog), "packs")
        with pytest.raises(Locked, match="pack \\(process"):
            back_up(packable)
        other = dataclasses.replace(
            packable, run_directory=packable.backup.directory / "other"
        )
        with pytest.raises(Locked, match="is packing catalog already"):
            refuse_the_impossible(other, False)
        small.alpha.kill()
        thread.join(PATIENCE)
    finally:
        held.close()
        if small.alpha.process is None:
            small.alpha.start()
    assert "was lost while it packed catalog" in str(failed[0])
    assert pack_note.leftover(catalog) is not None
    assert not packing.is_packing(packable, catalog)
    assert catalog.data_file.stat().st_size >= size
    monkeypatch.undo()
    told = {}

    def tell(text):
        told[text] = pack_note.leftover(catalog)

    packed = pack(packable, 0, tell=tell)
    assert packed.set_before.kind == packed.set_after.kind == "full"
    assert any(f"removing {catalog.data_file}.pack" in each for each in told)
    assert told["backing up first"] is None
    assert pack_note.leftover(catalog) is None


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_is_full_amid_a_pack(cluster, small_disk):
    """As where something else has taken the room that was there before."""
    with zeo_server(small_disk, ["catalog"]) as lone:
        client = ClientStorage(lone.address, storage="catalog", wait_timeout=PATIENCE)
        database = ZODB.DB(client)
        for number in range(3):
            with database.transaction() as connection:
                root = connection.root()
                root["number"] = number
                if not number:
                    root["large"] = PersistentMapping(data=os.urandom(1_200_000))
        database.close()
        free = shutil.disk_usage(small_disk).free
        (small_disk / "filler").write_bytes(bytes(free - 500_000))
        storage = dataclasses.replace(
            cluster.storage("catalog"), zeo="zeo", data_file=lone.data_file("catalog")
        )
        zeo = dataclasses.replace(cluster.zeos[0], name="zeo", address=lone.address)
        cluster = dataclasses.replace(cluster, zeos=(zeo,), storages=(storage,))
        content = storage.data_file.read_bytes()
        with pytest.raises(NoSpace, match="had no room to pack catalog"):
            packing.pack(cluster, storage, time.time(), lambda _count: None)
        assert storage.data_file.read_bytes() == content
        assert pack_note.leftover(storage) is None
        assert not packing.is_packing(cluster, storage)


def test_a_server_that_died_between_two_renames_does_not_begin_empty(cluster, tmp_path):
    data_file = tmp_path / "Data.fs"
    storage = dataclasses.replace(cluster.storages[0], data_file=data_file)
    assert not pack_note.put_back(storage)
    pack_files.pack_file_of(data_file).write_bytes(b"new")
    assert not pack_note.put_back(storage)
    pack_files.old_file_of(data_file).write_bytes(b"old")
    assert pack_note.put_back(storage)
    assert data_file.read_bytes() == b"old"
    assert not pack_note.put_back(storage)


class TestGarbageCollection:
    """What the running server has read decides, and not what stands there now."""

    @pytest.fixture
    def lone(self, cluster, tmp_path):
        """A server of its own, and its storage as the cluster's."""
        lone = ZeoServer(tmp_path / "lone", ["catalog"], "alpha")
        storage = dataclasses.replace(
            cluster.storage("catalog"), data_file=lone.data_file("catalog")
        )
        cluster = dataclasses.replace(cluster, storages=(storage,))
        yield SimpleNamespace(server=lone, cluster=cluster, storage=storage)
        if lone.process is not None:
            lone.kill()

    def test_collecting_is_refused_even_where_trusted(self, lone):
        text = lone.server.configuration.read_text()
        lone.server.configuration.write_text(text.replace(" pack-gc false\n", ""))
        lone.server.start()
        for trusted in (False, True):
            with pytest.raises(PackUnsafe, match="would collect garbage"):
                garbage.refuse_collection(lone.cluster, lone.storage, trusted)

    def test_what_nobody_can_see_is_refused_unless_trusted(self, lone, monkeypatch):
        def refused(match):
            with pytest.raises(PackUnsafe, match=match) as caught:
                garbage.refuse_collection(lone.cluster, lone.storage, False)
            assert "--gc-is-off" in caught.value.hint
            garbage.refuse_collection(lone.cluster, lone.storage, True)

        refused("no process here has .* open")
        text = lone.server.configuration.read_bytes()
        monkeypatch.setenv("TIDSTORAGE_CONFIGURATION", supervision.digest(text))
        lone.server.start()
        garbage.refuse_collection(lone.cluster, lone.storage, False)
        # Written again since, by whomever: the same text is no harm.
        monkeypatch.setattr(server_options, "_SLACK", -1e9)
        garbage.refuse_collection(lone.cluster, lone.storage, False)
        with lone.server.configuration.open("a") as stream:
            stream.write("# changed\n")
        refused("has been written since process")
        lone.server.configuration.unlink()
        refused("No such file")

    def test_nothing_is_packed_where_one_of_several_is_refused(self, small, cluster):
        storages = [
            dataclasses.replace(each, data_file=each.data_file.with_name("none.fs"))
            if each.id == "root"
            else each
            for each in cluster.storages
        ]
        cluster.storage("root").data_file.with_name("none.fs").touch()
        changed = dataclasses.replace(cluster, storages=tuple(storages))
        known_files.note(changed, accept=["root"])
        before = [each.data_file.stat().st_ino for each in cluster.storages]
        with pytest.raises(PackUnsafe, match="packs root"):
            pack(changed, 0)
        assert before == [each.data_file.stat().st_ino for each in cluster.storages]
        assert not backup_directory(cluster).sets()


def test_the_verb(small, packable, capsys):
    back_up(packable)
    options = SimpleNamespace(
        json=True, days=0.0, gc_is_off=False, dry_run=True, progress="none"
    )
    inodes = [each.data_file.stat().st_ino for each in packable.storages]
    pack_verb.run(options, packable)
    data = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in data["storages"]] == ["catalog", "root", "documents"]
    assert inodes == [each.data_file.stat().st_ino for each in packable.storages]
    assert len(whole(packable)) == 1
    options.json = False
    pack_verb.run(options, packable)
    assert "would be packed up to" in capsys.readouterr().out
    options.dry_run = False
    options.days = None
    pack_verb.run(options, packable)
    output = capsys.readouterr()
    assert "nothing to pack" in output.out
    assert "packing catalog up to" in output.err
    options.json, options.days = True, 0.0
    pack_verb.run(options, packable)
    output = capsys.readouterr()
    data = json.loads(output.out)
    assert output.err == ""
    assert [each["changed"] for each in data["storages"]] == [True] * 3
    for each in data["storages"]:
        assert each["last_packed"] < each["below"]
