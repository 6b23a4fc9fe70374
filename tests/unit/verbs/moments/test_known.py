"""Points looked up in a long journal, and beside it."""

import datetime
import json
from dataclasses import replace

import pytest

from tidstorage.coherence.point import HalfCommit, Point, Skew
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


def test_a_clock_that_was_set_back_between_points(tmp_path):
    """What is before a moment, or after it, is so whichever way they are read."""

    def numbered(number, minutes):
        return replace(at(minutes), vector={"a": number})

    times = [10, 20, 30, 15, 25, 35]
    path = tmp_path / "journal"
    points = [numbered(number, time) for number, time in enumerate(times, 1)]
    journal.append(path, *map(Published, points))
    known = KnownPoints(Renamed(), published.read(path, 0), (), ())
    for moment, before, after in (
        (12, [1], [2, 3, 4, 5, 6]),
        (17, [1], [5, 6]),
        (22, [2, 1], [5, 6]),
        (27, [2, 1], [6]),
        (32, [5, 4, 3, 2, 1], [6]),
        (9, [], [1, 2, 3, 4, 5, 6]),
        (40, [6, 5, 4, 3, 2, 1], []),
    ):
        assert minutes(known.before(1, at(moment).time)) == before
        assert minutes(known.after(1, at(moment).time)) == after
    for point in points:
        assert known.by_id(point.id).time == point.time
    assert known.by_id(at(26).id) is None


def test_the_barriers_around_a_moment_tell_of_the_servers(tmp_path):
    def measured(minutes, least, source="barrier"):
        skew = {"a": Skew(least, least + 0.5)}
        return replace(at(minutes), source=source, skew=skew)

    path = tmp_path / "journal"
    of_journal = measured(10, 1.0), measured(20, 2.0), measured(27, 9.0, "stamps")
    journal.append(path, *map(Published, of_journal))
    known = KnownPoints(
        Renamed(), published.read(path, 0), [measured(30, 3.0), at(26)], ()
    )
    clocks = known.clocks(1, at(28).time)
    assert clocks.before == {"b": Skew(2.0, 2.5)}
    assert clocks.after == {"b": Skew(3.0, 3.5)}
    clocks = known.clocks(1, at(5).time)
    assert clocks.before == {} and clocks.after == {"b": Skew(1.0, 1.5)}


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
