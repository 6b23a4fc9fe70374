"""Points looked up in a long journal, and beside it."""

import datetime
import json

import pytest

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.points import journal, published
from tidstorage.points.entries import Published, entry_to_json
from tidstorage.system import clock
from tidstorage.verbs.moments.known import KnownPoints

BEGIN = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
HALF = HalfCommit(b"h" * 16, {"a": 1}, ("b",))


def at(minutes, timeline=1, **options):
    moment = BEGIN + datetime.timedelta(minutes=minutes)
    return Point({"a": minutes}, moment, "stamps", timeline, **options)


class Renamed:
    """A cluster in which ``a`` is called ``b`` by now."""

    def present_ids(self, vector):
        return {"b" if each == "a" else each: last for each, last in vector.items()}


@pytest.fixture
def known(tmp_path):
    path = tmp_path / "journal"
    journal.append(
        path,
        *map(
            Published,
            (
                at(10),
                at(20),
                at(30, verified=False),
                at(40, damage=(HALF,)),
                at(50),
                at(35, timeline=2),
            ),
        ),
    )
    others = [at(25), at(45, damage=(HALF,)), at(60, verified=False)]
    return KnownPoints(Renamed(), published.read(path, 0), others, ())


def minutes(found):
    return [each.vector["b"] for each in found]


def test_sound_points_of_journal_and_sets_in_the_order_of_time(known):
    moment = at(50).time
    assert minutes(known.before(1, moment)) == [50, 25, 20, 10]
    assert minutes(known.before(1, at(49).time)) == [25, 20, 10]
    assert minutes(known.after(1, at(20).time)) == [25, 50]
    assert minutes(known.before(2, moment)) == [35]
    assert minutes(known.before(3, moment)) == []


def test_damage_that_was_accepted_is_none(known):
    accepting = KnownPoints(
        known.cluster, known.published, known.others, {HALF.commit_id}
    )
    assert minutes(accepting.before(1, at(49).time))[0] == 45


def test_each_point_by_its_id(known):
    for each in (at(10), at(30), at(40), at(50), at(35, 2), at(45), at(60)):
        assert known.by_id(each.id).time == each.time
    for other in (at(11).id, at(10, 2).id, "1-x", "", "1-20261301T000000.000000Z"):
        assert known.by_id(other) is None


def test_the_timeline_that_was_lived(known):
    assert known.timelines() == [1, 2]
    assert known.timeline_at(at(9).time) is None
    assert known.timeline_at(at(34).time) == 1
    assert known.timeline_at(at(35).time) == 2
    assert known.begin(2) == at(35).time


def test_nothing_is_known(tmp_path):
    nothing = KnownPoints(Renamed(), published.read(tmp_path / "none", 0), (), ())
    assert nothing.timelines() == [] and nothing.timeline_at(BEGIN) is None
    assert [*nothing.before(1, BEGIN)] == [*nothing.after(1, BEGIN)] == []


def test_long_damage_is_skipped_without_being_read(tmp_path, monkeypatch):
    """200,000 points with it in a row: nobody accepted it for days."""
    path = tmp_path / "journal"
    journal.append(path, Published(at(1)))
    damaged = Published(at(2, damage=(HALF,)))
    line = (json.dumps(entry_to_json(damaged)) + "\n").encode()
    with path.open("ab") as stream:
        stream.write(line * 200_000)
    found = published.read(path, 0)
    parsed = []
    original = published.journal.parse_line

    def counted(*arguments):
        parsed.append(1)
        return original(*arguments)

    monkeypatch.setattr(published.journal, "parse_line", counted)
    (only,) = KnownPoints(Renamed(), found, (), ()).before(1, clock.now())
    assert only.id == at(1).id and len(parsed) < 100
