"""What the journal says of a stretch, and whether the data agree with it."""

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from tidstorage.points.beside import point_path, read_point
from torture import judge
from torture.judge import History
from torture.report import Report
from torture.site import Site

Line = Mapping[str, Any]


def journal(site: Site) -> list[Line]:
    """Its whole lines."""
    if not site.journal.exists():
        return []
    return [
        json.loads(line)
        for line in site.journal.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


def of_present_timeline(lines: Sequence[Line]) -> Sequence[Line]:
    """What follows the line that begins it, where there is such a line."""
    begun = [at for at, line in enumerate(lines) if line["kind"] == "timeline"]
    return lines[begun[-1] :] if begun else lines


def accepted(lines: Sequence[Line]) -> set[str]:
    """Commits that somebody has accepted."""
    return {each["commit"] for each in lines if each["kind"] == "acknowledgement"}


def unnamed(history: History, lines: Sequence[Line], known: Set[str]) -> list[str]:
    """Half commits that these lines of a timeline neither name nor stand on.

    known: those that need not be named any more.
    """
    said = set(known)
    for line in lines:
        if line["kind"] == "damage":
            said.add(line["commit"])
        elif line["kind"] == "point":
            said |= {half["commit"] for half in line["damage"]}
            if line["source"] == "barrier":
                said |= torn_in(history, judge.named_vector(line["vector"]))
    return sorted(torn_commits(history) - said)


def torn_commits(history: History) -> set[str]:
    """Ids of all half commits."""
    torn = history.torn()
    return {
        record.commit
        for held in history.records.values()
        for key, record in held.items()
        if key in torn
    }


def torn_in(history: History, vector: judge.Vector) -> set[str]:
    """Half commits that a vector holds a part of."""
    torn = history.torn()
    return {
        held[key].commit
        for key in torn
        for storage, held in history.records.items()
        if key in held and held[key].tid <= vector.get(storage, 0)
    }


class JournalVerdict:
    """Of one stretch: what its lines say, against what its files hold."""

    def __init__(
        self, report: Report, site: Site, history: History, lines: Sequence[Line]
    ) -> None:
        """lines: those that the stretch has added."""
        self.report = report
        self.counts = report.counts
        self.site = site
        self.history = history
        self.lines = of_present_timeline(lines)
        self.lost = lines[: len(lines) - len(self.lines)]
        self.accepted = accepted(journal(site))
        #: Half commits that were named, or that a published barrier stood on.
        self.said: set[str] = set()
        #: Those that only the barrier has proven, and that nobody has named.
        self.hidden: set[str] = set()

    def judge(self, restored: bool, said_before: Set[str]) -> None:
        """Points and floors are coherent, and all damage is named; none besides.

        restored: whether the files were.  said_before: in the same timeline.
        """
        if self.lost and not restored:
            self.report.violate("daemon", ["a new timeline, and nobody restored"])
        self.report.violate(
            "daemon",
            [
                f"point {line['id']} is of a timeline that a restore had ended"
                for line in self.lost
                if line["kind"] == "point"
            ],
        )
        said = self.said = set(said_before)
        previous: Mapping[str, int] = {}
        timeline = 0
        for line in self.lines:
            if line["kind"] == "timeline":
                timeline = line["number"]
            elif line["kind"] == "damage":
                said.add(line["commit"])
                self.half_commit("journal", line)
            elif line["kind"] == "floor":
                self._floor(line)
            elif line["kind"] == "point":
                vector = judge.named_vector(line["vector"])
                faults = self._point(line, vector, said)
                if line["timeline"] < timeline:
                    faults.append(f"published after timeline {timeline} began")
                if any(vector[each] < tid for each, tid in previous.items()):
                    faults.append(f"went back from {previous}")
                timeline, previous = line["timeline"], vector
                self.report.violate(f"point {line['id']}", faults)
        self.report.violate(
            "daemon",
            [
                f"half commit {each} is not named"
                for each in unnamed(self.history, self.lines, self.accepted | said)
            ],
        )
        self._last_point()

    def _point(
        self, line: Line, vector: Mapping[str, int], said: set[str]
    ) -> list[str]:
        self.counts["points"] += 1
        for half in line["damage"]:
            said.add(half["commit"])
            self.half_commit("point", half)
        faults = []
        if line["source"] == "barrier":
            below = torn_in(self.history, vector) - said - self.accepted
            said |= below
            self.hidden |= below
            self.counts["barriers published"] += 1
            self.counts["half commits below a bootstrap, not named"] += len(below)
            # Of a storage that was added nobody has a point to begin from.
            if below and self.site.daemon_sees_files and not self.site.grown:
                faults.append(f"hides {sorted(below)}")
        faults += judge.faults_of_vector(self.history, vector, said | self.accepted, {})
        ends = self.history.ends
        above = [each for each, tid in vector.items() if tid > ends[each]]
        if above and self.site.deployed:
            faults.append(f"above the end of {above}")
        self.counts["points above the end"] += bool(above)
        return faults

    def _floor(self, line: Line) -> None:
        """What an acceptance or a rebase left: all that is torn in it was accepted."""
        self.counts["floors"] += 1
        vector = judge.named_vector(line["point"]["vector"])
        self.report.violate(
            f"floor {line['point']['id']}",
            judge.faults_of_vector(self.history, vector, self.accepted, {}),
        )

    def _last_point(self) -> None:
        """It names what nobody accepted, and nothing else."""
        points = [each for each in self.lines if each["kind"] == "point"]
        still = {half["commit"] for each in points[-1:] for half in each["damage"]}
        self.report.violate(
            "last point",
            [f"still names {each}" for each in sorted(still & self.accepted)],
        )

    def half_commit(self, where: str, half: Line) -> None:
        """What is called one has a record somewhere, and none where it lacks it."""
        key = self.history.commits().get(half["commit"])
        if key is None:
            self.report.violate(where, [f"half commit {half['commit']} is nowhere"])
            return
        came = [each for each in half["missing"] if key in self.history.records[each]]
        if came:
            self.report.violate(where, [f"half commit {key} came after all: {came}"])
        self.counts["half commits judged"] += 1

    def beside(self) -> None:
        """The point beside a file is one to build on: what it holds was accepted."""
        for storage, path in self.site.files.items():
            if not point_path(path).exists():
                continue
            vector = read_point(point_path(path)).vector
            below = torn_in(self.history, vector) - self.accepted
            if below:
                self.report.violate(f"floor of {storage}", [f"holds {sorted(below)}"])

    def acceptances(self, asked: set[str], rebased: bool) -> None:
        """Nothing was accepted that nobody wanted to."""
        if not rebased:
            unasked = self.accepted - asked
            self.report.violate("accepted", [f"{each}, unasked" for each in unasked])

    def damage(self, said: Mapping[str, Any]) -> None:
        """What ``bin/cluster damage`` says: all that is in the files, and no more."""
        for half in said["half_commits"]:
            self.half_commit("damage", half)
            if (half["acknowledged"] is not None) != (half["commit"] in self.accepted):
                self.report.violate("damage", [f"accepted or not: {half}"])
        named = {half["commit"] for half in said["half_commits"]}
        ends = self.history.ends
        # What is torn and undone may be packed away.
        gone = {key for _, key in self.history.undone}
        present = {
            record.commit
            for storage, held in self.history.records.items()
            for key, record in held.items()
            if key not in gone and record.tid <= ends[storage]
        }
        # The files prove nothing of what nothing follows yet.
        missed = torn_commits(self.history) & present - named - self.hidden
        self.report.violate("damage", [f"does not name {each}" for each in missed])
        self.counts["half commits named by bin/cluster damage"] += len(named)
