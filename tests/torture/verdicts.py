"""What is judged of one stretch, when everything stands still."""

import json
import shutil
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from ZODB.FileStorage.FileStorage import CorruptedError

from tidstorage.commands.scripts import cut as cut_command
from tidstorage.commands.scripts import restore_files
from tidstorage.errors import Damaged, FileUnreadable
from tidstorage.points.beside import point_path, read_point
from torture import bank_state, judge, published
from torture.bank_state import State
from torture.judge import History, Key
from torture.published import JournalVerdict, Line
from torture.report import Report
from torture.site import Site
from torture.tools import Cutter, ToolFailed, named, run_cluster, run_tool


class Known:
    """Of all timelines of a round: sets of former ones are restored too."""

    def __init__(self) -> None:
        self.torn: dict[Key, frozenset[str]] = {}
        self.commits: dict[Key, str] = {}
        self.accepted: set[str] = set()
        self.undone: dict[tuple[str, Key], int] = {}

    def add(self, history: History, accepted: set[str]) -> None:
        self.torn.update(history.torn())
        self.commits.update({key: each for each, key in history.commits().items()})
        self.accepted |= accepted
        self.undone.update(history.undone)

    def accepted_ones(self) -> dict[Key, frozenset[str]]:
        """Half commits that count as whole."""
        return {
            key: missing
            for key, missing in self.torn.items()
            if self.commits[key] in self.accepted
        }


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

    def journal(
        self,
        lines: Sequence[Line],
        asked: set[str],
        *,
        said: Set[str],
        restored: bool,
        rebased: bool,
    ) -> set[str]:
        """See `JournalVerdict`; what has been said of this timeline now."""
        verdict = JournalVerdict(self.report, self.site, self.history, lines)
        verdict.judge(restored, said)
        verdict.beside()
        verdict.acceptances(asked, rebased)
        try:
            damage = json.loads(run_cluster(self.site.file, "damage", "--json"))
        except ToolFailed as error:
            self.report.violate("damage", [str(error)])
        else:
            verdict.damage(damage)
        return verdict.said

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

    def undos(self, commits: Set[str]) -> None:
        """What is said to be undone is so, wherever it was."""
        keys = self.history.commits()
        for key in (keys[each] for each in commits & keys.keys()):
            left = [
                storage
                for storage, held in self.history.records.items()
                if key in held and (storage, key) not in self.history.undone
            ]
            self.report.violate("undo", [f"{key} is left on {each}" for each in left])

    # Cuts of copies, and of what is left

    def copy(self, copy: Path) -> None:
        """A set of copies, taken one after another while the load ran."""
        files = {each: copy / f"{each}.fs" for each in self.site.storages}
        try:
            uncut = bank_state.read_state(files)
            torn = bool(bank_state.faults_of_state(uncut, {}, self.known.undone, {}))
        except CorruptedError:
            # ZODB itself does without no more than the end of a vote.
            torn = True
        self.counts["copies torn without a cut"] += torn
        if any(map(judge.is_of_two_times, files.values())) and self._is_refused(files):
            self.counts["copies of two times refused"] += 1
            return
        self._cuts("copy", files)
        self.counts["cut copies"] += 1

    def _is_refused(self, files: Mapping[str, Path]) -> bool:
        """As broken: of what follows an unfinished transaction nobody can tell."""
        try:
            run_tool(cut_command.main, named(files))
        except ToolFailed as error:
            return error.status == FileUnreadable.exit_status
        return False

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
        paths = [point_path(each) for each in files.values()]
        beside = [read_point(each) for each in paths if each.exists()]
        floor = min(beside, key=lambda each: (each.timeline, each.time)).vector
        try:
            said = json.loads(run_tool(cut_command.main, [*named(files), "--json"]))
        except ToolFailed as error:
            self.report.violate(where, [str(error)])
            return
        strict = {each: int(place["tid"], 16) for each, place in said["strict"].items()}
        losing = self._drops_whole_ones(files, strict)
        self._refusal(where, files, bool(said["half_commits"]), losing)
        for half in said["half_commits"]:
            JournalVerdict(self.report, self.site, self.history, ()).half_commit(
                where, half
            )
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
        # What is at or below the floor is taken as it is.
        taken = published.torn_in(self.history, floor)
        torn = self.torn if policy == "tolerant" else self._keys(taken)
        self.state(where, policy, copies, torn)

    def _keys(self, commits: Set[str]) -> dict[Key, frozenset[str]]:
        keys = self.history.commits()
        return {keys[each]: self.torn[keys[each]] for each in commits}

    def _drops_whole_ones(
        self, files: Mapping[str, Path], strict: Mapping[str, int]
    ) -> bool | None:
        """Whether a cut drops a transaction of which the files hold every record.

        None where ZODB cannot read them to their ends.
        """
        try:
            held = judge.read_history({each: [path] for each, path in files.items()})
        except CorruptedError:
            return None
        return any(
            record.tid > strict[storage]
            and all(key in held.records[each] for each in record.storages)
            for storage, records in held.records.items()
            for key, record in records.items()
        )

    def _refusal(
        self,
        where: str,
        files: Mapping[str, Path],
        damaged: bool,
        losing: bool | None,
    ) -> None:
        """Without being told how, our tool cuts only what costs nothing whole.

        damaged: the files hold half commits.  losing: the cut drops whole transactions;
        None: nobody knows.
        """
        try:
            run_tool(restore_files.main, [*named(files), "--dry-run"])
            refused = False
        except ToolFailed as error:
            refused = error.status == Damaged.exit_status
            if not refused:
                self.report.violate(where, [str(error)])
        self.counts["crashes where it was asked"] += refused
        if losing is None and not damaged:
            return
        if refused != (damaged or losing):
            what = f"half commits: {damaged}, whole ones dropped: {losing}"
            self.report.violate(where, [f"refused: {refused}, {what}"])

    # What was restored

    def newest_set(self) -> Mapping[str, Any]:
        """What the manifest of the newest backup set says."""
        folder = self.site.cluster.backup.directory / "sets"
        newest = max(folder.glob("*/manifest.json"))
        manifest: Mapping[str, Any] = json.loads(newest.read_text())["manifest"]
        return manifest

    def sets(self) -> None:
        """The newest backup set, restored elsewhere."""
        said = {each["commit"] for each in self.newest_set()["point"]["damage"]}
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
            state = self.state("set", policy, files, self.may_hold(policy), blobs)
            held = {key for entries in state.entries.values() for key in entries}
            unsaid = {
                key
                for key in held & self.known.torn.keys()
                if self.known.commits[key] not in said | self.known.accepted
            }
            if unsaid:
                self.report.violate(f"set, {policy}", [f"holds {unsaid}, not named"])
            self.counts["restored sets"] += 1

    def may_hold(self, policy: str) -> Mapping[Key, frozenset[str]]:
        """Half commits that may be in what the cluster restores."""
        if policy == "tolerant":
            return self.known.torn
        return self.known.accepted_ones()

    def state(
        self,
        where: str,
        policy: str,
        files: Mapping[str, Path],
        torn: Mapping[Key, frozenset[str]],
        blobs: Mapping[str, Path] | None = None,
    ) -> State:
        """A restored set of files; torn: what it may hold of half commits."""
        state = bank_state.read_state(files, blobs)
        # A set may be of a former timeline, in which that was not undone.
        taken_back = {} if where == "set" else self.history.undone
        self.report.violate(
            f"{where}, {policy}",
            bank_state.faults_of_state(state, torn, self.known.undone, taken_back),
        )
        self.counts["references to what was undone"] += bank_state.dangling_after_undo(
            state, self.known.undone
        )
        self.counts[f"kept: {where}, {policy}"] += bank_state.size(state)
        self.counts[f"out of: {where}, {policy}"] += sum(
            len(each) for each in self.history.records.values()
        )
        return state


def _copy(path: Path, other: Path) -> None:
    shutil.copyfile(path, other)
    if point_path(path).exists():
        shutil.copyfile(point_path(path), point_path(other))
