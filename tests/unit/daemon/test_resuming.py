"""What a daemon that starts takes from the files of the former one."""

import dataclasses
import datetime

import pytest

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.daemon import resuming
from tidstorage.daemon.resuming import EntriesOfOthers
from tidstorage.daemon.settings import ObservedStorage, Settings
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import (
    Acknowledgement,
    Floor,
    Published,
    Struck,
    Timeline,
    entry_to_json,
)
from tidstorage.points.journal import Journal

TIME = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
HALF = HalfCommit(b"0123456789abcdef", {"a": 5}, ("b",))
STORAGES = tuple(ObservedStorage(each, ("localhost", 1), each) for each in "ab")


def at(a: int, b: int, timeline: int = 1, source: str = "stamps", **options) -> Point:
    return Point({"a": a, "b": b}, TIME, source, timeline, **options)


@pytest.fixture
def settings(tmp_path):
    return Settings(
        tid_log=tmp_path / "tidlog", journal=tmp_path / "journal", storages=STORAGES
    )


def written(settings, *entries) -> resuming.LastRun:
    Journal(settings.journal).append(*entries)
    return resuming.read_last_run(settings)


def test_a_new_start(settings):
    assert resuming.read_last_run(settings) == resuming.LastRun()


def test_the_last_point_with_its_damage(settings):
    former = written(
        settings,
        Published(at(1, 1)),
        Acknowledgement(TIME, HALF.commit_id, "me"),
        Published(at(2, 2, damage=(HALF,), verified=False)),
        Published(at(9, 9, source="wire")),
    )
    assert former.point == at(2, 2, damage=(HALF,), verified=False)
    assert former.timeline == 1
    assert former.acknowledged == {HALF.commit_id}


def test_a_torn_last_line_is_no_point(settings):
    written(settings, Published(at(1, 1)), Published(at(2, 2)))
    settings.journal.write_bytes(settings.journal.read_bytes()[:-5])
    assert resuming.read_last_run(settings).point == at(1, 1)


def test_a_timeline_that_has_no_point_yet(settings):
    former = written(settings, Published(at(5, 5)), Timeline(TIME, 2, {}, "restore"))
    assert former.point is None and former.timeline == 2
    assert written(settings, Published(at(1, 1, 2))).point == at(1, 1, 2)


def test_a_point_of_a_timeline_that_has_ended(settings):
    """Former daemons wrote it behind the line that begins the new one."""
    former = written(
        settings,
        *(Published(at(5, 5)), Timeline(TIME, 2, {}, "restore"), Published(at(6, 6))),
        Floor("x", at(7, 7)),
    )
    assert former.point is None and former.timeline == 2


def test_a_floor_counts_unless_it_is_a_step_back(settings):
    assert written(settings, Published(at(5, 5)), Floor("x", at(4, 6))).point == at(
        5, 5
    )
    assert written(settings, Floor("x", at(5, 6))).point == at(5, 6)


def test_a_floor_that_was_taken_before_the_last_point_is_published_after_it(settings):
    later = TIME + datetime.timedelta(seconds=1)
    last = Point({"a": 5, "b": 5}, later, "stamps")
    former = written(settings, Published(last), Floor("x", at(5, 6)))
    assert former.point.vector == {"a": 5, "b": 6} and former.point.time == later


def test_a_point_that_lacks_a_storage_is_none_to_go_on_from(settings):
    former = written(settings, Published(Point({"a": 5}, TIME, "stamps", 3)))
    assert former.point is None and former.timeline == 3


def test_removed_storages_and_wire_only_ids_are_left_out(settings):
    vector = {"a": 5, "b": 6, "gone": 7}
    former = written(settings, Published(Point(vector, TIME, "stamps")))
    assert former.point.vector == {"a": 5, "b": 6}


def test_without_a_journal_the_tid_log(settings):
    settings.tid_log.write_text("1.00 f {'a': 5, 'b': 6}\n2.00 d {'a': 7}\n")
    former = resuming.read_last_run(settings)
    assert former.point.vector == {"a": 7, "b": 6} and not former.point.verified


def test_files_that_were_swapped_while_no_daemon_ran(settings, tmp_path):
    data_file = tmp_path / "Data.fs"
    write_beside(at(1, 1, timeline=4), [data_file])
    local = Settings(
        journal=settings.journal,
        storages=(ObservedStorage("a", ("localhost", 1), "a", (), data_file),),
    )
    former = written(local, Published(at(5, 5, timeline=3)))
    # What a restore has left beside the files is where it goes on.
    assert former.point.vector == {"a": 1} and former.timeline == 4
    # Once the daemon knows of a later history than that, it counts no more.
    assert resuming.point_beside(local, 5) is None
    later = written(local, Timeline(TIME, 5, {"a": 5}, "files were replaced"))
    assert later.point is None and later.timeline == 5


def test_a_broken_entry_is_named(settings):
    settings.journal.write_text('{"kind": "point", "version": 1}\n')
    with pytest.raises(resuming.FileUnreadable, match="not an entry"):
        resuming.read_last_run(settings)


def test_what_others_write_meanwhile(settings):
    writer = Journal(settings.journal)
    acknowledgement = Acknowledgement(TIME, HALF.commit_id, "me")
    writer.append(acknowledgement)
    with settings.journal.open("ab") as stream:
        stream.write(b'{"kind": "acknow')
    former = resuming.read_last_run(settings)
    others = EntriesOfOthers(settings.journal, former.journal_read)
    assert others.read_new() == []
    # A daemon that starts is not there yet, and others do not wait for it.
    writer = Journal(settings.journal)
    writer.append(acknowledgement)
    others = EntriesOfOthers(settings.journal, former.journal_read)
    assert others.read_new() == [acknowledgement]
    assert others.read_new() == []
    struck = Struck(TIME, HALF.commit_id, "whole")
    writer.append(Published(at(1, 1)), acknowledgement, Floor("x", at(1, 1)), struck)
    assert others.read_new() == [acknowledgement, Floor("x", at(1, 1)), struck]
    assert others.read_new() == []
    with settings.journal.open("ab") as stream:
        stream.write(b'{"kind": "acknowledgement"}\n{"kind": "acknow')
    assert others.read_new() == []
    settings.journal.unlink()
    assert others.read_new() == []
    Journal(settings.journal).append(acknowledgement)
    assert others.read_new() == [acknowledgement]
    # Where a new one has grown before anybody looks.
    settings.journal.rename(settings.journal.with_name("moved"))
    Journal(settings.journal).append(Floor("x", at(1, 1)))
    Journal(settings.journal).append(Published(at(1, 1)))
    others._position = 1 << 20
    assert others.read_new() == [Floor("x", at(1, 1))]


def test_kinds_of_entries_start_as_they_are_looked_for(settings):
    """The daemon tells them by the start of the line, without parsing it."""
    entries = [Published(at(1, 1)), Floor("x", at(1, 1))]
    for entry in entries:
        assert str(entry_to_json(entry)).startswith("{'kind': ")


def of_files(settings, tmp_path, *entries, beside):
    """The last run, with a point beside each of two files."""
    paths = {storage: tmp_path / f"{storage}.fs" for storage in "ab"}
    write_beside(beside, paths.values())
    storages = tuple(
        dataclasses.replace(storage, data_file=paths[storage.id])
        for storage in settings.storages
    )
    return written(dataclasses.replace(settings, storages=storages), *entries)


def test_a_pack_leaves_a_higher_point_beside_the_files(settings, tmp_path):
    last = of_files(
        settings, tmp_path, Published(at(5, 5)), beside=at(7, 8, source="barrier")
    )
    assert last.point.vector == {"a": 7, "b": 8} and last.point.verified
    # Which of its TIDs are of records only the other one tells.
    assert last.followed.vector == {"a": 5, "b": 5}


def test_the_higher_one_of_each_storage(settings, tmp_path):
    last = of_files(
        settings,
        tmp_path,
        Published(at(9, 5, damage=(HALF,), verified=False)),
        beside=at(7, 8, source="barrier"),
    )
    assert last.point.vector == {"a": 9, "b": 8}
    assert last.point.damage == (HALF,) and not last.point.verified


def test_a_lower_point_beside_the_files_changes_nothing(settings, tmp_path):
    published = at(9, 9)
    last = of_files(
        settings, tmp_path, Published(published), beside=at(7, 8, source="barrier")
    )
    assert last.point == last.followed == published


def test_what_was_struck_out_is_damage_no_more(settings):
    last = written(settings, Published(at(1, 1)), Struck(TIME, HALF.commit_id, "whole"))
    assert last.acknowledged == {HALF.commit_id}
