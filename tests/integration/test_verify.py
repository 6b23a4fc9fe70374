"""Sets that rot in every way, and what a verification says of it."""

import datetime
import json
import sqlite3

import pytest
import records
from backup_sets import backup_directory, sets_over_time

from tidstorage.coherence import tid
from tidstorage.commands import cluster as front
from tidstorage.errors import Locked, NoSuchSet, NotCoherent, VerificationFailed
from tidstorage.operation import lock, results
from tidstorage.sets import manifest, verdicts
from tidstorage.sets.blob_pool import pool_path, read_lists
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.restore.plan import Request as Restore
from tidstorage.verbs.restore.restore import restore_elsewhere
from tidstorage.verbs.verify import checker, files, good_files
from tidstorage.verbs.verify import verify as verifying
from tidstorage.verbs.verify.verify import VerifyRequest, verify

pytestmark = pytest.mark.integration

ALL = VerifyRequest("all", "digests")
NO_TIME = datetime.timedelta(0)


@pytest.fixture(scope="module")
def over_time():
    return sets_over_time()


@pytest.fixture
def cluster(over_time, tmp_path):
    return over_time.cluster(tmp_path)


def states(report):
    """What became of the sets, oldest first."""
    return [each.state for each in report.sets[::-1]]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def is_whole(cluster, made):
    return backup_directory(cluster).set(made.id).is_whole


@pytest.mark.parametrize("depth", ["sizes", "digests"])
def test_sound_sets_are_good_and_are_known_to_be(over_time, cluster, depth):
    report = verify(cluster, VerifyRequest("all", depth))
    assert states(report) == ["good"] * 6
    assert (report.costs, report.is_finished) == ([], True)
    for each in backup_directory(cluster).sets():
        assert each.is_whole
        assert each.verified.depth == depth
        assert each.verified.good[depth] >= over_time.made[-1].finished
    assert results.read(cluster, "verify").last.state == "good"


def rot_data(cluster, made):
    """A file of the second set, an increment: the third needs it too."""
    path = cluster.backup.directory / made[1].storage("root").files[-1].path
    flip_a_byte(path)
    return path, "data", (2, 1), "root"


def shorten_data(cluster, made):
    path, *rest = rot_data(cluster, made)
    path.write_bytes(path.read_bytes()[:-1])
    return path, *rest


def remove_data(cluster, made):
    path, *rest = rot_data(cluster, made)
    path.unlink()
    return path, *rest


def rot_full(cluster, made):
    path = cluster.backup.directory / made[3].storage("catalog").files[0].path
    flip_a_byte(path)
    return path, "data", (5, 4, 3), "catalog"


def rot_list(cluster, made):
    path = cluster.backup.directory / made[4].storage("documents").blob_lists[-1].path
    flip_a_byte(path)
    return path, "blob list", (5, 4), "documents"


def blob_of(cluster, made):
    """The path of a blob that came with a set, and the sets that need it."""
    directory = cluster.backup.directory
    lists = made.storage("documents").blob_lists
    blob = read_lists(directory, lists[-1:]).blobs[0]
    return pool_path(BackupDirectory(directory).pool("documents"), blob.sha256), blob


def rot_blob(cluster, made):
    path, blob = blob_of(cluster, made[0])
    flip_a_byte(path)
    needing = [
        number
        for number, each in enumerate(made)
        if blob.path
        in {
            one.path
            for one in read_lists(
                cluster.backup.directory, each.storage("documents").blob_lists
            ).blobs
        }
    ]
    return path, "blob", needing[::-1], "documents"


def rot_manifest(cluster, made):
    path = backup_directory(cluster).sets_folder / made[5].id / manifest.FILE_NAME
    path.write_text(path.read_text().replace('"kind"', '"kinb"', 1))
    return path, "manifest", (5,), None


ROTS = [
    rot_data,
    shorten_data,
    remove_data,
    rot_full,
    rot_list,
    rot_blob,
    rot_manifest,
]


@pytest.mark.parametrize("rot", ROTS)
def test_what_rots_is_named_with_what_it_costs(over_time, cluster, rot):
    made = over_time.made
    path, kind, needing, storage = rot(cluster, made)
    report = verify(cluster, ALL)
    (cost,) = report.costs
    assert cost.path == str(path.relative_to(cluster.backup.directory))
    assert (cost.kind, cost.storage) == (kind, storage)
    assert cost.sets == tuple(made[number].id for number in needing)
    others = [number for number in range(6) if number not in needing]
    assert cost.instead == (made[others[-1]].id if others else None)
    assert states(report) == ["bad" if n in needing else "good" for n in range(6)]
    assert results.read(cluster, "verify").last.status == VerificationFailed.exit_status
    if kind != "manifest":
        for number, each in enumerate(made):
            assert is_whole(cluster, each) == (number not in needing)
        set_id = made[needing[0]].id
        with pytest.raises(NotCoherent, match="is not whole"):
            restore_elsewhere(cluster, Restore(set_id=set_id), cluster.directory / "x")


def test_the_transactions_are_those_of_the_file(over_time, cluster):
    """As the application sees them: their TIDs, and how many they are."""
    second = over_time.made[1].storage("root")
    rot_data(cluster, over_time.made)
    (cost,) = verify(cluster, ALL).costs
    first_end = over_time.made[0].storage("root").ranges[-1].last
    assert (cost.after, cost.last) == (first_end, second.ranges[-1].last)
    live = [number for number, _ in records.read(cluster.storage("root").data_file)]
    held = [each for each in live if cost.after < each <= cost.last]
    assert cost.transactions == len(held) > 0


def test_a_blob_costs_the_transaction_that_wrote_it(over_time, cluster):
    path, blob = blob_of(cluster, over_time.made[0])
    path.unlink()
    (cost,) = verify(cluster, ALL).costs
    assert (cost.after, cost.last, cost.transactions) == (blob.tid - 1, blob.tid, 1)


def test_where_a_whole_disk_is_gone_not_every_file_is_told(
    over_time, cluster, monkeypatch, capsys
):
    monkeypatch.setattr(checker, "MOST_TOLD", 2)
    root = backup_directory(cluster).repository("root")
    gone = [path for path in root.iterdir() if path.suffix.endswith("fsz")]
    assert len(gone) == 6
    for path in gone:
        path.unlink()
    assert command(cluster, monkeypatch, "verify", "--all", "--json") == (
        VerificationFailed.exit_status
    )
    output, errors = capsys.readouterr()
    said = json.loads(output)
    assert (len(said["faults"]), said["more_faults"]) == (2, 4)
    assert "4 more files are bad" in errors
    assert not any(is_whole(cluster, each) for each in over_time.made)


def test_sizes_alone_do_not_see_a_flipped_byte(over_time, cluster):
    rot_data(cluster, over_time.made)
    assert verify(cluster, VerifyRequest("all", "sizes")).is_good
    assert not verify(cluster, ALL).is_good
    # What is known stays known.
    assert verify(cluster, VerifyRequest("all", "sizes")).is_good
    assert not is_whole(cluster, over_time.made[1])


def test_only_what_is_asked_for_is_read(over_time, cluster):
    rot_data(cluster, over_time.made)
    made = over_time.made
    report = verify(cluster, VerifyRequest("latest", "digests"))
    assert [(each.set_id, each.state) for each in report.sets] == [(made[5].id, "good")]
    report = verify(cluster, VerifyRequest((made[2].id, made[0].id), "digests"))
    assert states(report) == ["good", "bad"]
    # The second needs the file as well, and was not looked at.
    assert not is_whole(cluster, made[1])
    with pytest.raises(NoSuchSet, match="there is no set 2020"):
        verify(cluster, VerifyRequest(("2020",), "digests"))


def test_the_latest_that_can_be_read_is_verified_where_the_newest_is_broken(
    over_time, cluster
):
    rot_manifest(cluster, over_time.made)
    report = verify(cluster, VerifyRequest("latest", "digests"))
    assert states(report) == ["good", "bad"]
    assert report.sets[1].set_id == over_time.made[4].id


def test_a_file_that_is_put_back_is_good_again(over_time, cluster):
    path = rot_data(cluster, over_time.made)[0]
    verify(cluster, ALL)
    flip_a_byte(path)
    assert not is_whole(cluster, over_time.made[1]), "nobody has looked yet"
    # At one set: what it needs is no fault of the others either.
    assert verify(cluster, VerifyRequest((over_time.made[2].id,), "digests")).is_good
    assert [is_whole(cluster, each) for each in over_time.made] == [True] * 6


def test_a_budget_ends_a_run_and_the_next_one_goes_on(over_time, cluster, monkeypatch):
    """Every file is read just once, however many runs that takes."""
    read = []
    original = files.find_fault

    def counted(directory, stored, *rest):
        read.append(stored.path)
        return original(directory, stored, *rest)

    monkeypatch.setattr(files, "find_fault", counted)
    request = VerifyRequest("all", "digests", NO_TIME)
    unfinished = 0
    while not (report := verify(cluster, request)).is_finished:
        unfinished += 1
        assert len(read) == unfinished, "a run with no time at all reads one file"
        assert unfinished < 100, "and each run another one"
        if unfinished == 1:
            assert read[0] == over_time.made[5].files()[0].path, "newest first"
            assert states(report)[5] == "unfinished"
    assert states(report) == ["good"] * 6
    assert len(read) == len(set(read)) == unfinished + 1 > 24
    first_read = min(
        each.verified.good["digests"] for each in backup_directory(cluster).sets()
    )
    read.clear()
    verify(cluster, request)
    assert len(read) == 1, "what was finished is begun anew"
    assert first_read < results.read(cluster, "verify").last.begun


def test_what_was_found_before_the_time_was_over_is_not_forgotten(over_time, cluster):
    path = rot_full(cluster, over_time.made)[0]
    request = VerifyRequest("all", "digests", NO_TIME)
    for _ in range(100):
        report = verify(cluster, request)
        if report.costs or report.is_finished:
            break
    (cost,) = report.costs
    assert cost.path == str(path.relative_to(cluster.backup.directory))
    assert not report.is_finished
    assert not is_whole(cluster, over_time.made[5])


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_broken_memory_is_begun_anew(cluster, content, caplog):
    path = cluster.backup.directory / good_files.FILE_NAME
    path.write_bytes(content)
    assert verify(cluster, ALL).is_good
    assert bool(content) == ("is begun anew" in caplog.text)
    sqlite3.connect(path).execute("select * from good").close()


def test_a_full_disk_is_no_reason_not_to_verify(cluster, monkeypatch, caplog):
    """Of the database alone: what is kept of the sets is another matter."""
    connect = good_files._connect

    def small(path):
        database = connect(path)
        database.execute("pragma max_page_count = 1")
        return database

    monkeypatch.setattr(good_files, "_connect", small)
    monkeypatch.setattr(good_files, "_UNCOMMITTED", 1)
    path = cluster.backup.directory / good_files.FILE_NAME
    connect(path).close()
    filler = sqlite3.connect(path)
    filler.execute("insert into round values (?, '')", ("x" * 100_000,))
    filler.commit()
    filler.close()
    report = verify(cluster, ALL)
    assert report.is_good and report.is_finished
    assert caplog.text.count("the next run will not go on from here") == 1


def test_a_set_that_is_pruned_meanwhile_is_no_fault(over_time, cluster, monkeypatch):
    first = over_time.made[0]
    original = files.find_fault
    folder = backup_directory(cluster).sets_folder / first.id

    def prune_then_look(directory, stored, *rest):
        if stored.path == over_time.made[1].storage("root").files[0].path:
            for each in over_time.made[:3]:
                folder = directory.sets_folder / each.id
                (folder / manifest.FILE_NAME).unlink(missing_ok=True)
                for one in each.files():
                    (directory.path / one.path).unlink(missing_ok=True)
        return original(directory, stored, *rest)

    monkeypatch.setattr(files, "find_fault", prune_then_look)
    report = verify(cluster, ALL)
    assert states(report) == ["gone"] * 3 + ["good"] * 3
    assert report.is_good
    assert not (folder / verdicts.FILE_NAME).exists()


def test_one_at_a_time_but_beside_a_backup(cluster):
    with lock.hold(cluster, "backup"):
        assert verify(cluster, VerifyRequest("latest", "sizes")).is_good
    cluster.run_directory.mkdir(exist_ok=True)
    path = cluster.run_directory / verifying.LOCK
    with lock.hold_file(path, "verify"), pytest.raises(Locked, match="verify"):
        verify(cluster, ALL)


def command(cluster, monkeypatch, *arguments):
    monkeypatch.setattr(front, "open_cluster", lambda _: cluster)
    return front.main([*arguments])


def test_on_the_command_line(over_time, cluster, monkeypatch, capsys):
    made = over_time.made
    assert command(cluster, monkeypatch, "verify", "--all", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["finished"], said["good"], said["faults"]) == (True, True, [])
    path = rot_data(cluster, made)[0]
    status = command(cluster, monkeypatch, "verify", "--all", "--depth", "digests")
    assert status == VerificationFailed.exit_status
    out, err = capsys.readouterr()
    assert f"{made[1].id}  bad" in out and f"{made[5].id}  good" in out
    name = str(path.relative_to(cluster.backup.directory))
    assert f"error: {name} is not what was written" in err
    last = tid.to_text(made[1].storage("root").ranges[-1].last)
    assert f"TID <= {last}" in err
    assert f"Sets that are not whole without it: {made[2].id}, {made[1].id}." in err
    assert f"The newest whole set is {made[5].id}." in err
    arguments = ["verify", made[1].id, "--json", "--budget", "0s", "--depth", "sizes"]
    assert command(cluster, monkeypatch, *arguments) == 0
    assert json.loads(capsys.readouterr().out)["finished"] is False
    backups_said = backups_of(cluster, monkeypatch, capsys)
    assert backups_said[made[1].id]["whole"] is False
    assert backups_said[made[5].id]["verified"]["depth"] == "digests"


def backups_of(cluster, monkeypatch, capsys):
    assert command(cluster, monkeypatch, "backups", "--json") == 0
    return {each["id"]: each for each in json.loads(capsys.readouterr().out)}


def test_a_rotten_index_is_named_and_no_set_is_lost_with_it(
    over_time, cluster, monkeypatch, capsys
):
    """Only stock repozo, and the next backup, look at it."""
    index = over_time.made[5].storage("root").index
    path = cluster.backup.directory / index.path
    flip_a_byte(path)
    report = verify(cluster, ALL)
    (cost,) = report.costs
    assert (cost.kind, cost.sets) == ("index", (over_time.made[5].id,))
    assert not report.is_good
    assert states(report) == ["good"] * 6
    assert all(is_whole(cluster, each) for each in over_time.made)
    arguments = ("verify", "latest", "--depth", "digests")
    assert command(cluster, monkeypatch, *arguments) == VerificationFailed.exit_status
    assert "Remove it: every set is whole without" in capsys.readouterr().err
    path.unlink()
    assert command(cluster, monkeypatch, *arguments) == 0


@pytest.mark.parametrize("text", ["", "h", "4", "-1h", "4y", "1e999d", "nand"])
def test_what_is_no_length_of_time(cluster, monkeypatch, capsys, text):
    with pytest.raises(SystemExit):
        command(cluster, monkeypatch, "verify", f"--budget={text}")
    assert "expected a number with s, m, h or d" in capsys.readouterr().err
