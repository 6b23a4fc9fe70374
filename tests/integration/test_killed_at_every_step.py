"""SIGKILL before every step of every verb that changes something on disk.

What is left is what the next run recognises, and mends or goes on with.
"""

import contextlib
import io
import shutil
import time

import pytest
from backup_sets import backup_directory
from dying import Step, killed_at, recorded
from legacy_site import status_files, write_configuration
from offline_site import OfflineSite
from torn_files import TornFiles
from ZODB.FileStorage import FileStorage
from ZODB.scripts import repozo as stock_repozo
from ZODB.serialize import referencesf

from tidstorage.engines import filestorage
from tidstorage.legacy import backup as original_backup
from tidstorage.legacy import cleanup, configuration, recover
from tidstorage.legacy import site as sites
from tidstorage.legacy.repozo import Repozo
from tidstorage.operation import pack_note as pack_notes
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.points import tid_log
from tidstorage.sets import marker
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.pack import garbage
from tidstorage.verbs.pack import pack as packs
from tidstorage.verbs.restore import crashed_files
from tidstorage.verbs.restore.crashed_files import Request as CrashedRequest
from tidstorage.verbs.restore.outcome import Ended, Restored
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import restore_elsewhere, restore_in_place

pytestmark = pytest.mark.integration


class Scene:
    """A folder that every run finds as it was at first, at the same path."""

    def __init__(self, folder):
        self.folder = folder / "scene"
        self.folder.mkdir()
        self._kept = folder / "kept"

    def keep(self):
        """From now on `again` brings this state back."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.folder, self._kept, symlinks=True)

    def again(self):
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder, symlinks=True)

    def kill_at_each_step(self, verb, check, known=()):
        """Kill it at each of its steps, each time from the beginning; their names.

        Not at those that were killed at in another run: ``known``.
        """
        steps = [step for step in recorded(verb) if step.name not in known]
        for step in steps:
            self.again()
            assert killed_at(step, verb), step
            try:
                check()
            except BaseException as error:
                error.add_note(f"killed before {step}")
                raise
        return {step.name for step in steps}


def has(names, place, event):
    """Whether a step was met: else the recording has become blind."""
    return any(place in name and name.endswith(f": {event}") for name in names)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.fixture
def site(scene, monkeypatch):
    made = OfflineSite(scene.folder, monkeypatch)
    made.files.close()
    made.commit("a b", "a", "b")
    return made


def restored(site, folder):
    """{path below: bytes} of a restore elsewhere."""
    restore_elsewhere(site.cluster, Request(), folder)
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix == ".blob" or path.name == "Data.fs"
    }
    shutil.rmtree(folder)
    return found


def test_backup(scene, site, tmp_path):
    """An increment, then what else is done for full copies and for the first set."""
    cluster = site.cluster
    former = back_up(cluster).id
    site.commit("a b", "a")
    blobs = {path.name for path in site.contents() if path.suffix == ".blob"}
    wanted = {
        f"{each}/Data.fs": path.read_bytes() for each, path in site.files.paths.items()
    }

    def check():
        # Whatever a killed run has left, no set is offered that is not whole.
        before = backup_directory(cluster).sets()
        assert former in {None, *(each.manifest.id for each in before)}
        made = back_up(cluster)
        newest = backup_directory(cluster).sets()[0]
        assert newest.manifest.id == made.id and newest.is_whole
        assert not [*site.excess()]
        found = restored(site, tmp_path / "out")
        assert {k: v for k, v in found.items() if k in wanted} == wanted
        assert {k.rpartition("/")[2] for k in found if ".blob" in k} == blobs

    scene.keep()
    names = scene.kill_at_each_step(lambda: back_up(cluster), check)
    # Nothing of one repository can be built on.
    scene.again()
    for path in backup_directory(cluster).repository("a").iterdir():
        path.unlink()
    scene.keep()
    names |= scene.kill_at_each_step(lambda: back_up(cluster), check, names)
    scene.again()
    shutil.rmtree(cluster.backup.directory)
    marker.note_path(cluster).unlink()
    scene.keep()
    former = None
    names |= scene.kill_at_each_step(lambda: back_up(cluster), check, names)
    for place, event in (
        ("sets.begun.write", "os.rename"),
        ("manifest.write", "os.fsync"),
        ("manifest.write", "os.rename"),
        ("backup.blobs.", "os.fsync"),
        ("beside.write_beside", "os.rename"),
        ("sets.marker.mark", "os.rename"),
    ):
        assert has(names, place, event), (place, event, sorted(names))


def test_restore(scene, site):
    cluster = site.cluster
    back_up(cluster)
    wanted = site.contents()
    site.commit("a b", "b")
    for path in site.files.blobs["a"].rglob("*.blob"):
        path.chmod(0o600)
    scene.keep()

    def check():
        outcome = restore_in_place(cluster, Request())
        assert isinstance(outcome, Ended | Restored) and outcome.set_id
        assert site.contents() == wanted
        names = [each.name for each in site.files.paths["a"].parent.iterdir()]
        assert not [each for each in names if ".restoring" in each]
        assert not interrupted_swap(cluster)
        # Whatever was there is kept, once.
        assert len([each for each in names if each.startswith("a.fs.before")]) <= 3

    names = scene.kill_at_each_step(lambda: restore_in_place(cluster, Request()), check)
    for place, event in (
        ("restore.swap.write", "os.fsync"),
        ("restore.swap.write", "os.rename"),
        ("restore.swap._rename", "os.rename"),
        ("beside.write_beside", "os.rename"),
    ):
        assert has(names, place, event), (place, event, sorted(names))


def test_restore_elsewhere(scene, site):
    cluster = site.cluster
    back_up(cluster)
    wanted = {each: path.read_bytes() for each, path in site.files.paths.items()}
    scene.keep()
    out = scene.folder / "out"

    def check():
        # Once the mark is gone all is done, and a second run would refuse.
        if not out.exists() or {each.name for each in out.iterdir()} != {*wanted}:
            restore_elsewhere(cluster, Request(), out)
        assert {each.name for each in out.iterdir()} == {*wanted}
        for each, data in wanted.items():
            assert (out / each / "Data.fs").read_bytes() == data

    names = scene.kill_at_each_step(
        lambda: restore_elsewhere(cluster, Request(), out), check
    )
    assert has(names, "restore.swap._rename", "os.rename")


def test_cut_of_crashed_files(scene, site):
    site.files._open()
    whole = site.files.last_tids()
    site.files.commit("a", meant="a b")
    site.files.commit("a", meant="a b")
    site.files.close()
    blobs = {path.name for path in site.contents() if path.suffix == ".blob"}
    scene.keep()
    request = CrashedRequest(
        site.files.paths,
        {},
        frozenset(),
        cluster=site.cluster,
        blob_directories=site.files.blobs,
    )

    def check():
        crashed_files.restore(request)
        assert site.files.last_tids() == whole
        folder = site.files.paths["a"].parent
        assert {path.name for path in folder.rglob("*.blob")} == blobs
        names = [each.name for each in folder.iterdir()]
        assert not [each for each in names if each.endswith((".cut-plan", ".copying"))]

    names = scene.kill_at_each_step(lambda: crashed_files.restore(request), check)
    for place, event in (
        ("cut_plan.write", "os.rename"),
        ("copying.save_range", "os.rename"),
        ("truncation.cut_off", "os.truncate"),
        ("truncation.cut_off", "os.fsync"),
        ("cut_plan.finish", "os.remove"),
    ):
        assert has(names, place, event), (place, event, sorted(names))


def objects(site):
    """What the files hold: {storage: {oid: data}}, and the blobs."""
    found = {}
    for each, path in site.files.paths.items():
        storage = FileStorage(str(path), read_only=True)
        found[each] = {oid: storage.load(oid)[0] for oid in storage._index}
        storage.close()
    return found


@pytest.fixture
def packing_in_process(site, monkeypatch):
    """What a server does is done here: its own steps are killed at, too."""

    def pack(_cluster, storage, seconds, _advance):
        blobs = storage.blob_directory
        opened = FileStorage(
            str(storage.data_file), blob_dir=blobs and str(blobs), pack_gc=False
        )
        try:
            opened.pack(seconds, referencesf)
        finally:
            opened.close()

    monkeypatch.setattr(packs.packing, "pack", pack)
    monkeypatch.setattr(packs.packing, "is_packing", lambda *_arguments: False)
    monkeypatch.setattr(pack_notes, "is_packing", lambda *_arguments: False)
    monkeypatch.setattr(garbage, "refuse_collection", lambda *_arguments: None)


def test_pack(scene, site, packing_in_process, tmp_path):
    cluster = site.cluster
    site.commit("a b", "a b", "a b")
    wanted = objects(site)
    known = {step.name for step in recorded(lambda: back_up(cluster))}

    def check():
        for storage in cluster.storages:
            # As when its server starts.
            pack_notes.put_back(storage)
        assert objects(site) == wanted
        packed = packs.pack(cluster, 0)
        assert objects(site) == wanted
        assert not pack_notes.note_path(cluster).exists()
        assert not any(map(pack_notes.leftover, cluster.storages))
        newest = backup_directory(cluster).sets()[0]
        assert newest.is_whole
        assert newest.manifest.id == (packed.set_after or packed.set_before).id
        # The copies are of the packed files, and do not go on from those before.
        for each in newest.manifest.storages:
            last = filestorage.packed_above(site.files.paths[each.id], 0)
            assert each.packed == last > 0
        assert restored(site, tmp_path / "out")

    # Between two renames there is no Data.fs.
    scene.keep()
    between = Step("tidstorage.verbs.pack.pack._pack: os.rename", 2)
    assert killed_at(between, lambda: packs.pack(cluster, 0))
    assert [path.exists() for path in site.files.paths.values()].count(False) == 1
    check()
    scene.again()
    names = scene.kill_at_each_step(lambda: packs.pack(cluster, 0), check, known)
    for place, event in (
        ("operation.pack_note.write_note", "os.rename"),
        ("operation.pack_note.remove_note", "os.remove"),
        ("pack.pack._pack", "os.rename"),
        ("pack.pack._pack", "os.remove"),
        ("pack.pack._pack", "os.fsync"),
    ):
        assert has(names, place, event), (place, event, sorted(names))


class RepozoInProcess(Repozo):
    """Stock repozo, in this process: what it does are steps too."""

    def _run(self, arguments, _descriptors):
        with contextlib.redirect_stderr(io.StringIO()):
            stock_repozo.main(arguments)


class TestOriginal:
    """The original's command lines."""

    @pytest.fixture
    def files(self, scene):
        made = TornFiles(scene.folder / "files", "a b")
        made.commit("a b")
        yield made
        made.close()

    @pytest.fixture
    def found(self, scene, files):
        path = scene.folder / "tidstorage.py"
        addresses = dict.fromkeys(files.paths, ("127.0.0.1", 8100))
        self.ids = write_configuration(path, files.paths, addresses)
        return sites.read_site(configuration.load(path))

    def publish(self, files, found):
        log = tid_log.Writer(found.status_file)
        vector = {self.ids[each]: last for each, last in files.vector().items()}
        log.write(vector, time.time())
        log.close()

    def contents(self, files):
        return {each: path.read_bytes() for each, path in files.paths.items()}

    def test_backup(self, scene, files, found):
        self.publish(files, found)
        original_backup.back_up(found, RepozoInProcess())
        files.commit("a b")
        self.publish(files, found)
        files.close()
        wanted = self.contents(files)
        scene.keep()

        def check():
            original_backup.back_up(found, RepozoInProcess())
            recover.recover(found, RepozoInProcess(), status_files(scene.folder)[-1])
            assert self.contents(files) == wanted

        names = scene.kill_at_each_step(
            lambda: original_backup.back_up(found, RepozoInProcess(options=("-Q",))),
            check,
        )
        assert has(names, "site.note_success", "os.fsync")
        assert has(names, "backup._keep_tid_log", "os.rename")

    def test_recover(self, scene, files, found):
        self.publish(files, found)
        wanted = self.contents(files)
        original_backup.back_up(found, RepozoInProcess())
        files.commit("a b")
        files.close()
        scene.keep()
        log = status_files(scene.folder)[-1]

        def check():
            recover.recover(found, RepozoInProcess(), log)
            assert self.contents(files) == wanted
            assert not found.swap_journal.exists()
            assert not [*(scene.folder / "files").glob("*.restoring*")]

        names = scene.kill_at_each_step(
            lambda: recover.recover(found, RepozoInProcess(), log), check
        )
        assert has(names, "restore.swap._rename", "os.rename")

    def test_cleanup(self, scene, files, found):
        for _ in range(3):
            files.commit("a b")
            self.publish(files, found)
            original_backup.back_up(found, RepozoInProcess(options=("-F",)))
        files.close()
        wanted = self.contents(files)
        scene.keep()

        def check():
            cleanup.clean_up(found)
            assert not cleanup.clean_up(found)
            recover.recover(found, RepozoInProcess(), status_files(scene.folder)[-1])
            assert self.contents(files) == wanted

        names = scene.kill_at_each_step(lambda: cleanup.clean_up(found), check)
        assert has(names, "cleanup.clean_up", "os.remove")
