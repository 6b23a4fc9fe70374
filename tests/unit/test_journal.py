"""The journal: what is written is read again, whatever happens in between."""

import datetime
import fcntl
import json
import os
import threading

import pytest
from journals import journal_entries

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.errors import FileUnreadable
from tidstorage.points import journal
from tidstorage.points.entries import (
    Acknowledgement,
    Damage,
    Floor,
    Published,
    Stamping,
    Timeline,
    Unstamped,
    WireDamage,
    WritersSeen,
    entry_to_json,
)
from tidstorage.points.journal import Journal

TIME = datetime.datetime(2026, 11, 24, 18, 30, 0, 250000, tzinfo=datetime.UTC)
HALF = HalfCommit(b"0123456789abcdef", {"a": 5}, ("b",))
POINT = Point({"a": 5, "b": 7}, TIME, "stamps", 2, True, (HALF,))
ENTRIES = [
    Published(POINT),
    Damage(TIME, HALF, "b holds what saw it"),
    WireDamage(TIME, "t\udcff1", ("a", "é"), {"a": 3}, "no end"),
    Acknowledgement(TIME, HALF.commit_id, "operator"),
    Floor(POINT, "acknowledged"),
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
