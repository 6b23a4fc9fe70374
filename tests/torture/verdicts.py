"""What is judged of one stretch, when everything stands still."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidstorage import point
from tidstorage.commands import cut as cut_command
from tidstorage.commands import restore_files
from tidstorage.errors import Damaged
from torture import judge
from torture.judge import History, Key
from torture.report import Report
from torture.site import Site
from torture.tools import Cutter, ToolFailed, named, run_cluster, run_tool


class Known:
    """Of all timelines of a round: sets of former ones are restored too."""

    def __init__(self) -> None:
        self.torn: dict[Key, frozenset[str]] = {}
        self.commits: dict[Key, str] = {}

    def add(self, history: History) -> None:
        self.torn.update(history.torn())
        self.commits.update({key: each for each, key in history.commits().items()})


class Verdict:
    """The history of a stretch, and what has to agree with it."""

    def __init__(
        self, report: Report, site: Site, history: History, known: Known, cut: Cutter
    ) -> None:
        self.report = report
        self.counts = report.counts
        self.site = site
        self.history = history
        self.torn = history.torn()
        self.known = known
        self.cut = cut

    # What was published, and told

    def points(self, lines: list[dict[str, Any]], restored: bool) -> None:
        """Points in these lines of the journal are coherent, and name all damage.

        restored: whether the files were.  A daemon that cannot see the files goes
        on from its last point before it finds out from the servers: counted.
        """
        begun = [at for at, line in enumerate(lines) if line["kind"] == "timeline"]
        if begun and not restored:
            self.report.violate("daemon", ["a new timeline, and nobody restored"])
        lost = lines[: begun[-1]] if begun else []
        self.counts["points of a lost timeline"] += sum(
            line["kind"] == "point" for line in lost
        )
        said: set[str] = set()
        previous: dict[str, int] = {}
        for line in lines[len(lost) :]:
            if line["kind"] == "damage":
                said.add(line["commit"])
                self._half_commit("journal", line)
            if line["kind"] != "point":
                continue
            self.counts["points"] += 1
            vector = judge.named_vector(line["vector"])
            for half in line["damage"]:
                said.add(half["commit"])
                self._half_commit("point", half)
            if line["source"] == "barrier":
                below = self._torn_in(vector) - said
                said |= below
                self.counts["bootstraps"] += 1
                self.counts["half commits below a bootstrap, not named"] += len(below)
            faults = judge.faults_of_vector(self.history, vector, said, {})
            if any(vector[each] < tid for each, tid in previous.items()):
                faults.append(f"went back from {previous}")
            previous = vector
            ends = self.history.ends
            above = [each for each, tid in vector.items() if tid > ends[each]]
            if above and self.site.deployed:
                faults.append(f"above the end of {above}")
            self.counts["points above the end"] += bool(above)
            self.report.violate(f"point {line['id']}", faults)
        self.report.violate(
            "daemon",
            [
                f"half commit {key} ({self.known.commits[key]}) is not named"
                for key in self.torn
                if self.known.commits[key] not in said
            ],
        )

    def _torn_in(self, vector: Mapping[str, int]) -> set[str]:
        """Commits that a vector holds a part of, and that are torn."""
        return {
            held[key].commit
            for key in self.torn
            for storage, held in self.history.records.items()
            if key in held and held[key].tid <= vector.get(storage, 0)
        }

    def floor(self) -> None:
        """The point beside the files is one to build on: nothing in it is torn."""
        for storage, path in self.site.files.items():
            below = self._torn_in(point.read(point.beside(path)).vector)
            if below:
                self.report.violate(f"floor of {storage}", [f"holds {sorted(below)}"])

    def vectors(self, where: str, vectors: list[dict[str, int]]) -> None:
        """Coherent, whatever half commits they hold."""
        everything = set(self.history.commits())
        for vector in vectors:
            self.counts[f"vectors: {where}"] += 1
            self.report.violate(
                f"{where} {vector}",
                judge.faults_of_vector(self.history, vector, everything, {}),
            )

    def outcomes(self, told: set[tuple[Key, str]]) -> None:
        """What a client was told about its transactions is so."""
        there = {key for held in self.history.records.values() for key in held}
        for key, outcome in told:
            if outcome == "committed" and (key in self.torn or key not in there):
                self.report.violate(
                    "client", [f"{key} was committed, and is not there"]
                )
            if outcome not in ("committed", "unknown") and key in there:
                self.report.violate("client", [f"{key} was {outcome}, and is there"])

    def _half_commit(self, where: str, half: Mapping[str, Any]) -> None:
        """What is called one has a record somewhere, and none where it lacks it."""
        key = self.history.commits().get(half["commit"])
        if key is None:
            self.report.violate(where, [f"half commit {half['commit']} is nowhere"])
            return
        came = [each for each in half["missing"] if key in self.history.records[each]]
        if came:
            self.report.violate(where, [f"half commit {key} came after all: {came}"])
        self.counts["half commits judged"] += 1

    # Cuts of copies, and of what is left

    def copy(self, copy: Path) -> None:
        """A set of copies, taken one after another while the load ran."""
        files = {each: copy / f"{each}.fs" for each in self.site.storages}
        if judge.faults_of_state(judge.read_state(files), {}):
            self.counts["copies torn without a cut"] += 1
        self._cuts("copy", files)
        self.counts["cut copies"] += 1

    def crash(self) -> None:
        """The files as the stretch has left them."""
        folder = self.site.folder / f"crash-{self.counts['timelines']}"
        folder.mkdir()
        files = {each: folder / f"{each}.fs" for each in self.site.storages}
        for storage, path in self.site.files.items():
            _copy(path, files[storage])
        self._cuts("crashed files", files)
        self.counts["crashed files cut"] += 1

    def _cuts(self, where: str, files: Mapping[str, Path]) -> None:
        """Both cuts of a set of files, each on copies of its own."""
        floor = point.read(point.beside(next(iter(files.values())))).vector
        try:
            said = json.loads(run_tool(cut_command.main, [*named(files), "--json"]))
        except ToolFailed as error:
            self.report.violate(where, [str(error)])
            return
        self._refusal(where, files, bool(said["half_commits"]))
        for half in said["half_commits"]:
            self._half_commit(where, half)
        for policy in ("strict", "tolerant"):
            self._cut(where, files, policy, said, floor)

    def _cut(
        self,
        where: str,
        files: Mapping[str, Path],
        policy: str,
        said: Mapping[str, Any],
        floor: Mapping[str, int],
    ) -> None:
        vector = {
            storage: int(place["tid"], 16) for storage, place in said[policy].items()
        }
        damage = {half["commit"] for half in said["half_commits"]}
        self.report.violate(
            f"{where}, {policy} cut",
            judge.faults_of_vector(
                self.history, vector, damage if policy == "tolerant" else (), floor
            ),
        )
        copies = {
            storage: path.with_name(f"{policy}-{path.name}")
            for storage, path in files.items()
        }
        for storage, path in files.items():
            _copy(path, copies[storage])
        try:
            self.cut(copies, policy)
        except ToolFailed as error:
            self.report.violate(where, [str(error)])
            return
        self.state(where, policy, copies)

    def _refusal(self, where: str, files: Mapping[str, Path], damaged: bool) -> None:
        """Without being told how, our tool cuts just what holds no half commit."""
        try:
            run_tool(restore_files.main, [*named(files), "--dry-run"])
            refused = False
        except ToolFailed as error:
            refused = error.status == Damaged.exit_status
            if not refused:
                self.report.violate(where, [str(error)])
        if refused != damaged:
            self.report.violate(where, [f"refused: {refused}, half commits: {damaged}"])

    # What was restored

    def sets(self) -> None:
        """The newest backup set, restored elsewhere."""
        folder = self.site.cluster.backup.directory / "sets"
        newest = max(folder.glob("*/manifest.json"))
        damage = json.loads(newest.read_text())["manifest"]["point"]["damage"]
        said = {each["commit"] for each in damage}
        for policy in ("strict", "tolerant"):
            folder = self.site.folder / f"set-{self.counts['timelines']}-{policy}"
            try:
                run_cluster(
                    self.site.file, "restore", f"--{policy}", "--into", str(folder)
                )
            except ToolFailed as error:
                self.report.violate("set", [str(error)])
                return
            files = {each: folder / each / "Data.fs" for each in self.site.storages}
            blobs = {each: folder / each / "blobs" for each in self.site.blobs}
            held = self.state("set", policy, files, blobs)
            unsaid = {
                key
                for key in held
                if key in self.known.torn and self.known.commits[key] not in said
            }
            if unsaid:
                self.report.violate(f"set, {policy}", [f"holds {unsaid}, not named"])
            self.counts["restored sets"] += 1

    def state(
        self,
        where: str,
        policy: str,
        files: Mapping[str, Path],
        blobs: Mapping[str, Path] | None = None,
    ) -> set[Key]:
        """A restored set of files; the transactions in it."""
        state = judge.read_state(files, blobs)
        torn = self.known.torn if policy == "tolerant" else {}
        self.report.violate(f"{where}, {policy}", judge.faults_of_state(state, torn))
        self.counts[f"kept: {where}, {policy}"] += judge.size(state)
        self.counts[f"out of: {where}, {policy}"] += sum(
            len(each) for each in self.history.records.values()
        )
        return {key for entries in state.entries.values() for key in entries}


def _copy(path: Path, other: Path) -> None:
    shutil.copyfile(path, other)
    shutil.copyfile(point.beside(path), point.beside(other))
