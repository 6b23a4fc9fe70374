"""The journal: what is written is read again, whatever happens in between."""

import dataclasses
import datetime
import fcntl
import json
import os
import threading

import pytest
from daemons import journal_entries

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import journal
from tidstorage.points.entries import (
    Acknowledgement,
    Damage,
    Floor,
    Published,
    Stamping,
    Struck,
    Timeline,
    Unstamped,
    WireDamage,
    WritersSeen,
    entry_to_json,
)
from tidstorage.points.journal import Journal
from tidstorage.points.summary import summarise

TIME = datetime.datetime(2026, 11, 24, 18, 30, 0, 250000, tzinfo=datetime.UTC)
HALF = HalfCommit(b"0123456789abcdef", {"a": 5}, ("b",))
POINT = Point({"a": 5, "b": 7}, TIME, "stamps", 2, True, (HALF,))
ENTRIES = [
    Published(POINT),
    Damage(TIME, HALF, "b holds what saw it"),
    WireDamage(TIME, "t\udcff1", ("a", "é"), {"a": 3}, "no end"),
    Acknowledgement(TIME, HALF.commit_id, "operator"),
    Floor("acknowledged", POINT),
    Timeline(TIME, 3, {"a": 1}, "restore"),
    WritersSeen(
        *(TIME, TIME, (Stamping("web-1", "here", 7, TIME),)),
        {"a": Unstamped(3, 5, "importer", "nightly"), "b": Unstamped(1, 2)},
    ),
]


def test_every_entry_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "journal"
    writer = Journal(path)
    writer.append(ENTRIES[0])
    writer.append(*ENTRIES[1:])
    assert journal_entries(path) == ENTRIES
    assert len(path.read_text().splitlines()) == len(ENTRIES)


def test_a_torn_last_line_is_left_out_and_then_healed(tmp_path):
    path = tmp_path / "journal"
    Journal(path).append(*ENTRIES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert journal_entries(path) == ENTRIES[:-1]
    Journal(path).append(ENTRIES[-1])
    assert path.read_bytes() == whole


def test_a_kind_of_a_later_version_is_skipped(tmp_path):
    path = tmp_path / "journal"
    path.write_text('{"kind": "weather", "sun": true}\n')
    Journal(path).append(ENTRIES[0])
    assert journal_entries(path) == ENTRIES[:1]


def test_a_broken_entry_is_named(tmp_path):
    path = tmp_path / "journal"
    Journal(path).append(ENTRIES[0])
    with path.open("a") as stream:
        stream.write('{"kind": "damage"}\n')
    with pytest.raises(FileUnreadable, match=r"not an entry of a journal: .*damage"):
        journal_entries(path)


def test_no_journal_yet(tmp_path):
    assert journal_entries(tmp_path / "journal") == []


def test_entries_are_written_all_or_none(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    writer = Journal(path)
    writer.append(ENTRIES[0])
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            writer.append(*ENTRIES[1:])
    assert path.read_bytes() == before


def test_a_rotated_journal(tmp_path):
    path = tmp_path / "journal"
    writer = Journal(path)
    writer.append(ENTRIES[0])
    path.rename(tmp_path / "journal.1")
    writer.reopen()
    writer.append(ENTRIES[1])
    assert journal_entries(path) == ENTRIES[1:2]


def test_a_journal_that_cannot_be_reopened_goes_on_in_the_old_file(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = Journal(folder / "journal")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        writer.reopen()
    writer.append(ENTRIES[0])
    assert journal_entries(moved / "journal") == [ENTRIES[0]]


def test_what_another_is_writing_is_neither_healed_nor_cut_off(tmp_path):
    """A backup appends while the daemon does."""
    path = tmp_path / "journal"
    line = json.dumps(entry_to_json(ENTRIES[3])).encode() + b"\n"
    appending = threading.Thread(target=journal.append, args=(path, ENTRIES[1]))
    with path.open("ab", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(line[:20])
        appending.start()
        appending.join(0.2)
        other.write(line[20:])
        fcntl.flock(other, fcntl.LOCK_UN)
        appending.join(30)
    assert journal_entries(path) == [ENTRIES[3], ENTRIES[1]]


#: What version 6.0.0 wrote for `ENTRIES`, a line each.
WRITTEN = (
    b'{"kind": "point", "version": 1, "id": "2-20261124T183000.250000Z", '
    b'"timeline": 2, "time": "2026-11-24T18:30:00.250000+00:00", "source": '
    b'"stamps", "verified": true, "vector": {"a": "0x0000000000000005", "b": '
    b'"0x0000000000000007"}, "damage": [{"commit": '
    b'"30313233343536373839616263646566", "present": {"a": '
    b'"0x0000000000000005"}, "missing": ["b"]}]}\n'
    b'{"kind": "damage", "time": "2026-11-24T18:30:00.250000+00:00", "proof": '
    b'"b holds what saw it", "commit": "30313233343536373839616263646566", '
    b'"present": {"a": "0x0000000000000005"}, "missing": ["b"]}\n'
    b'{"kind": "wire-damage", "time": "2026-11-24T18:30:00.250000+00:00", '
    b'"transaction": "t\\udcff1", "storages": ["a", "\\u00e9"], "tids": {"a": '
    b'"0x0000000000000003"}, "reason": "no end"}\n'
    b'{"kind": "acknowledgement", "time": "2026-11-24T18:30:00.250000+00:00", '
    b'"commit": "30313233343536373839616263646566", "by": "operator"}\n'
    b'{"kind": "floor", "reason": "acknowledged", "point": {"version": 1, "id": '
    b'"2-20261124T183000.250000Z", "timeline": 2, "time": '
    b'"2026-11-24T18:30:00.250000+00:00", "source": "stamps", "verified": true, '
    b'"vector": {"a": "0x0000000000000005", "b": "0x0000000000000007"}, '
    b'"damage": [{"commit": "30313233343536373839616263646566", "present": '
    b'{"a": "0x0000000000000005"}, "missing": ["b"]}]}}\n'
    b'{"kind": "timeline", "time": "2026-11-24T18:30:00.250000+00:00", '
    b'"number": 3, "vector": {"a": "0x0000000000000001"}, "reason": "restore"}\n'
    b'{"kind": "coverage", "time": "2026-11-24T18:30:00.250000+00:00", "since": '
    b'"2026-11-24T18:30:00.250000+00:00", "stamping": [{"name": "web-1", '
    b'"host": "here", "pid": 7, "last": "2026-11-24T18:30:00.250000+00:00"}], '
    b'"unstamped": {"a": {"count": 3, "tid": "0x0000000000000005", "user": '
    b'"importer", "description": "nightly"}, "b": {"count": 1, "tid": '
    b'"0x0000000000000002", "user": "", "description": ""}}}\n'
)


def test_every_byte_is_as_it_always_was(tmp_path):
    path = tmp_path / "journal"
    Journal(path).append(*ENTRIES)
    assert path.read_bytes() == WRITTEN
    path.write_bytes(WRITTEN)
    assert journal_entries(path) == ENTRIES


def test_keys_of_a_later_version_are_passed_over(tmp_path):
    path = tmp_path / "journal"
    lines = [{**json.loads(line), "later": [1]} for line in WRITTEN.splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert journal_entries(path) == ENTRIES


@pytest.mark.parametrize("line", WRITTEN.splitlines())
def test_an_entry_lacks_nothing_and_has_nothing_else_in_its_place(line, tmp_path):
    """Except an id, which is made of time and timeline."""
    path = tmp_path / "journal"
    whole = json.loads(line)
    for key in whole.keys() - {"id", "kind"}:
        for broken in (
            {name: whole[name] for name in whole.keys() - {key}},
            {**whole, key: None},
            {**whole, key: {"a": []}},
        ):
            path.write_text(json.dumps(broken) + "\n")
            with pytest.raises(FileUnreadable, match=key):
                journal_entries(path)


class TestSummary:
    def test_of_everything(self, tmp_path):
        path = tmp_path / "journal"
        again = [
            Damage(TIME, HALF, "found once more"),
            Acknowledgement(TIME, HALF.commit_id, "another"),
        ]
        Journal(path).append(*ENTRIES, *again)
        told = summarise(path)
        assert told.damages == {HALF.commit_id: ENTRIES[1]}
        assert told.acknowledgements == {HALF.commit_id: ENTRIES[3]}
        assert told.wire_damages == [ENTRIES[2]]
        assert told.floors == [ENTRIES[4]]
        assert told.timeline == 3
        assert told.last is None

    def test_the_last_point_is_of_files_that_are_still_there(self, tmp_path):
        path = tmp_path / "journal"
        newer = dataclasses.replace(POINT, vector={"a": 6, "b": 7})
        Journal(path).append(Floor("accepted", POINT), Published(newer))
        told = summarise(path)
        assert told.last == told.last_of(2) == newer
        assert told.last_of(3) is None
        journal.append(path, Floor("accepted", POINT))
        assert summarise(path).last == POINT

    def test_of_none(self, tmp_path):
        told = summarise(tmp_path / "journal")
        assert told.last is None and told.timeline == 0 and not told.damages

    def test_a_broken_one(self, tmp_path):
        (tmp_path / "journal").write_text("{}\n")
        with pytest.raises(FileUnreadable):
            summarise(tmp_path / "journal")

    def test_what_was_struck_out_is_no_damage(self, tmp_path):
        path = tmp_path / "journal"
        struck = Struck(TIME, HALF.commit_id, "every storage has it")
        Journal(path).append(ENTRIES[1], Published(POINT), struck)
        told = summarise(path)
        assert told.damages == {} and told.struck == {HALF.commit_id: struck}
        assert told.last == dataclasses.replace(POINT, damage=())
        # Seen to be torn later on, as after a restore of a single storage.
        journal.append(path, ENTRIES[1], Published(POINT))
        told = summarise(path)
        assert told.damages and not told.struck and told.last == POINT


def test_a_strike_is_as_it_always_was(tmp_path):
    path = tmp_path / "journal"
    struck = Struck(TIME, HALF.commit_id, "every storage has it")
    line = (
        b'{"kind": "struck", "time": "2026-11-24T18:30:00.250000+00:00", '
        b'"commit": "30313233343536373839616263646566", '
        b'"reason": "every storage has it"}\n'
    )
    Journal(path).append(struck)
    assert path.read_bytes() == line
    assert journal_entries(path) == [struck]
