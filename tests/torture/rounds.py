"""One round: a bank on a new site, tortured, then cut and restored, and judged."""

import contextlib
import io
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real import wait_until

from tidstorage import barrier, point
from tidstorage.commands import cluster as cluster_command
from tidstorage.commands import cut as cut_command
from tidstorage.commands import restore_files
from tidstorage.point import Point
from torture import judge
from torture.events import Events
from torture.judge import History, State
from torture.site import Site

#: Seconds in which the daemon has to cover all, once nobody writes any more.
SETTLING = 15.0
#: Without these a round proves nothing.
REQUIRED = (
    "committed",
    "kills of clients",
    "kills of servers",
    "half commits",
    "points",
    "connections cut",
    "copies torn without a cut",
    "cut copies",
    "restored sets",
    "crashed files cut",
)
_SHOWN_FAULTS = 12


@dataclass(slots=True)
class Report:
    """What one round contained.  missing: what it should have, and did not."""

    number: int
    seed: str
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        return [each for each in REQUIRED if not self.counts[each]]

    def to_json(self) -> dict[str, Any]:
        return {
            "round": self.number,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "violations": self.violations,
            "missing": self.missing,
            "counts": dict(sorted(self.counts.items())),
        }


#: Cuts {storage: copy} in place by a policy, "strict" or "tolerant"; its words.
Cutter = Callable[[Mapping[str, Path], str], str]


def cut_by_our_tool(files: Mapping[str, Path], policy: str) -> str:
    """tidstorage-restore, as an operator calls it."""
    return run_tool(restore_files.main, [*_named(files), f"--{policy}", "--json"])


def _named(files: Mapping[str, Path]) -> list[str]:
    return [f"{storage}={path}" for storage, path in files.items()]


class ToolFailed(Exception):
    """One of our tools ended with a status, and said this."""

    def __init__(self, arguments: list[str], status: object, said: str) -> None:
        super().__init__(f"{' '.join(arguments)}: status {status}: {said}")
        self.status = status


def run_tool(main: Callable[[list[str]], int], arguments: list[str]) -> str:
    """A command in this process; what it printed."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            status: object = main(arguments)
        except SystemExit as ended:
            status = ended.code
        except Exception as error:
            # A traceback is never an answer of a tool.
            raise ToolFailed(arguments, "traceback", repr(error)) from error
    if status:
        raise ToolFailed(arguments, status, said.getvalue())
    return out.getvalue()


class Round:
    """See ``run``."""

    def __init__(
        self,
        number: int,
        seed: int,
        cut: Cutter = cut_by_our_tool,
        *,
        others: int = 5,
        restored: bool = True,
    ) -> None:
        """others: number of random events in each stretch, see `Events.run`.

        restored: whether a second stretch follows, after a restore.
        """
        self.report = Report(number, f"{seed}-{number}")
        self.chance = random.Random(self.report.seed)
        self.cut = cut
        self.others = others
        self.restored = restored
        self.counts = self.report.counts
        #: Of all timelines: sets of former ones are restored too.
        self.torn: dict[judge.Key, frozenset[str]] = {}

    def run(self, folder: Path | None = None) -> Report:
        """Run it in a folder, or in one that is removed when nothing was violated."""
        began = time.monotonic()
        scratch = folder or Path(tempfile.mkdtemp(prefix="torture-"))
        site = None
        try:
            site = Site(scratch, self.chance)
            self._run(site)
        except Exception as error:
            # A round that cannot be brought to its end is one that failed.
            self.report.violations.append(
                f"did not end: {type(error).__name__}: {error}"
            )
        finally:
            if site is not None:
                site.close()
        self.report.seconds = time.monotonic() - began
        if folder is None and not self.report.violations:
            shutil.rmtree(scratch, ignore_errors=True)
        elif self.report.violations:
            self.report.counts["kept in " + str(scratch)] = 1
        return self.report

    def _run(self, site: Site) -> None:
        site.start_servers()
        first = Point(
            barrier.take(barrier.storages_of(site.cluster)), point.now(), "barrier"
        )
        point.write_beside(first, site.files.values())
        self._stretch(site)
        if self.restored:
            self._restore_in_place(site)
            self._stretch(site)
        self._count_outcomes(site)

    def _violate(self, where: str, faults: list[str]) -> None:
        for fault in faults[:_SHOWN_FAULTS]:
            self.report.violations.append(f"{where}: {fault}")
        if len(faults) > _SHOWN_FAULTS:
            self.report.violations.append(f"{where}: and {len(faults)} in all")

    def _stretch(self, site: Site) -> None:
        """Load and events, then standstill, and everything is judged."""
        self.counts["timelines"] += 1
        events = Events(site, self.chance, self.counts)
        before = _journal_length(site)
        told_before = _told(site)
        log = site.cluster.daemon.tid_log
        logged = (log.stat().st_ino, log.stat().st_size) if log.exists() else (0, 0)
        site.daemon.start()
        events.start_load()
        wait_until(lambda: self._is_under_way(site), "every client has committed")
        if self.chance.random() < 0.7:
            wait_until(site.dump, "the daemon has its first point")
        events.run(self.others)
        copy = events.copy_files("last-copy", pause=0.1)
        events.stop_load(kill=self.chance.random() < 0.7)
        self._settle(site)
        if not self.counts["backups"] and not events.backed_up():
            self._violate("backup", ["none succeeded"])
        self._end_site(site)
        self._violate("harness or tool", events.faults)
        for each in site.files.values():
            events.keep_packed(each)
        history = judge.read_history(_all_files(site))
        torn = history.torn()
        self.counts["half commits"] += len(torn.keys() - self.torn.keys())
        self.torn.update(torn)
        self._judge_points(site, history, before, events.barriers)
        self._judge_tid_log(site, history, logged)
        self._judge_outcomes(history, _told(site) - told_before)
        for each in (*events.copies, copy):
            self._judge_copy(site, each, history)
        self._judge_crash(site, history)
        self._judge_sets(site, history)

    @staticmethod
    def _is_under_way(site: Site) -> bool:
        """Whether each client has had its first answer."""
        begun = {worker.partition(".")[0] for worker, *_ in site.outcomes()}
        return all(each.name in begun for each in site.clients.values())

    def _settle(self, site: Site) -> None:
        """The daemon has to cover all that is there, and to say so."""
        for server in site.servers.values():
            with server.lock:
                assert server.runs(), f"{server.name} does not run"
        assert site.daemon.runs(), "the daemon does not run"
        ends: dict[str, int] = {}

        def covered() -> bool:
            ends.clear()
            ends.update(judge.read_history(_present_files(site)).ends)
            return site.dump() == ends

        began = time.monotonic()
        try:
            wait_until(covered, "the point covers all", SETTLING)
        except AssertionError:
            self._violate("daemon", [f"its point {site.dump()} stays below {ends}"])
        self.counts["settling, in ms"] += round(1000 * (time.monotonic() - began))

    def _end_site(self, site: Site) -> None:
        for each in (site.daemon, *site.servers.values()):
            if self.chance.random() < 0.5:
                each.kill()
            else:
                each.end()
        self.counts["connections cut"] += sum(each.cut for each in site.links)
        self.counts["connections made"] += sum(each.made for each in site.links)
        for link in site.links:
            link.made = link.cut = 0

    # Points

    def _judge_points(
        self,
        site: Site,
        history: History,
        before: int,
        barriers: list[dict[str, int]],
    ) -> None:
        """Everything that was published is coherent, and names what is torn in it."""
        commits = history.commits()
        torn = history.torn()
        named: set[str] = set()
        previous: dict[str, int] = {}
        for line in _journal(site)[before:]:
            if line["kind"] == "timeline":
                previous = {}
            if line["kind"] == "damage":
                named.add(line["commit"])
                self._judge_half_commit("journal", line, history)
            if line["kind"] != "point":
                continue
            vector = judge.named_vector(line["vector"])
            self.counts["points"] += 1
            if line["source"] == "barrier":
                named |= {
                    history.records[storage][key].commit
                    for key in torn
                    for storage in history.records
                    if key in history.records[storage]
                    and history.records[storage][key].tid <= vector[storage]
                }
                self.counts["bootstraps"] += 1
            for half in line["damage"]:
                named.add(half["commit"])
                self._judge_half_commit("point", half, history)
            faults = judge.faults_of_vector(history, vector, named, {})
            if any(vector[each] < tid for each, tid in previous.items()):
                faults.append(f"went back from {previous}")
            previous = vector
            above = [each for each, tid in vector.items() if tid > history.ends[each]]
            if above and site.deployed:
                faults.append(f"above the end of {above}")
            self.counts["points above the end"] += bool(above)
            self._violate(f"point {line['id']}", faults)
        for key in torn:
            (commit, *_) = [
                held[key].commit for held in history.records.values() if key in held
            ]
            if commit not in named:
                self._violate("daemon", [f"half commit {key} ({commit}) is not named"])
        for vector in barriers:
            everything = set(commits)
            self._violate(
                "barrier", judge.faults_of_vector(history, vector, everything, {})
            )

    def _judge_tid_log(
        self, site: Site, history: History, before: tuple[int, int]
    ) -> None:
        """What is in it since (inode, size); half commits were judged already."""
        path = site.cluster.daemon.tid_log
        node, length = before
        vectors = judge.read_tid_log(path, length if path.stat().st_ino == node else 0)
        everything = set(history.commits())
        for vector in vectors:
            self.counts["TID log lines"] += 1
            self._violate(
                f"TID log {vector}",
                judge.faults_of_vector(history, vector, everything, {}),
            )

    def _judge_outcomes(
        self, history: History, told: set[tuple[judge.Key, str]]
    ) -> None:
        """What a client was told about its transactions is so."""
        torn = history.torn()
        there = {key for held in history.records.values() for key in held}
        for key, outcome in told:
            if outcome == "committed" and (key in torn or key not in there):
                self._violate("client", [f"{key} was committed, and is not there"])
            if outcome != "committed" and outcome != "unknown" and key in there:
                self._violate("client", [f"{key} was {outcome}, and is there"])

    def _judge_half_commit(
        self, where: str, half: Mapping[str, Any], history: History
    ) -> None:
        key = history.commits().get(half["commit"])
        if key is None:
            self._violate(where, [f"half commit {half['commit']} is nowhere"])
            return
        came = [each for each in half["missing"] if key in history.records[each]]
        if came:
            self._violate(where, [f"half commit {key} came after all: {came}"])
        self.counts["half commits judged"] += 1

    # Cuts of copies and of what is left

    def _judge_copy(self, site: Site, copy: Path, history: History) -> None:
        files = {each: copy / f"{each}.fs" for each in site.storages}
        if judge.faults_of_state(judge.read_state(files), {}):
            self.counts["copies torn without a cut"] += 1
        self._judge_cuts("copy", files, history)
        self.counts["cut copies"] += 1

    def _judge_crash(self, site: Site, history: History) -> None:
        folder = site.folder / f"crash-{self.counts['timelines']}"
        folder.mkdir()
        files = {}
        for storage, path in site.files.items():
            files[storage] = folder / f"{storage}.fs"
            shutil.copyfile(path, files[storage])
            shutil.copyfile(point.beside(path), point.beside(files[storage]))
        self._judge_cuts("crashed files", files, history)
        self.counts["crashed files cut"] += 1

    def _judge_cuts(
        self, where: str, files: Mapping[str, Path], history: History
    ) -> None:
        """Both cuts of a set of files, each on copies of its own."""
        floor = point.read(point.beside(next(iter(files.values())))).vector
        try:
            said = json.loads(run_tool(cut_command.main, [*_named(files), "--json"]))
        except ToolFailed as error:
            self._violate(where, [str(error)])
            return
        named = {half["commit"] for half in said["half_commits"]}
        for half in said["half_commits"]:
            self._judge_half_commit(where, half, history)
        for policy in ("strict", "tolerant"):
            vector = {
                storage: int(place["tid"], 16)
                for storage, place in said[policy].items()
            }
            known = named if policy == "tolerant" else set()
            self._violate(
                f"{where}, {policy} cut",
                judge.faults_of_vector(history, vector, known, floor),
            )
            copies = _copied(files, policy)
            try:
                self.cut(copies, policy)
            except ToolFailed as error:
                self._violate(where, [str(error)])
                continue
            self._judge_state(f"{where}, {policy}", copies, None, policy, history)

    def _judge_state(
        self,
        where: str,
        files: Mapping[str, Path],
        blobs: Mapping[str, Path] | None,
        policy: str,
        history: History,
    ) -> State:
        state = judge.read_state(files, blobs)
        torn = self.torn if policy == "tolerant" else {}
        self._violate(where, judge.faults_of_state(state, torn))
        self.counts[f"entries kept ({policy})"] += judge.size(state)
        self.counts[f"entries there ({policy})"] += sum(
            len(each) for each in history.records.values()
        )
        return state

    # Backup sets

    def _judge_sets(self, site: Site, history: History) -> None:
        for policy in ("strict", "tolerant"):
            folder = site.folder / f"set-{self.counts['timelines']}-{policy}"
            try:
                self._cluster(site, "restore", f"--{policy}", "--into", str(folder))
            except ToolFailed as error:
                self._violate("set", [str(error)])
                return
            files = {each: folder / each / "Data.fs" for each in site.storages}
            blobs = {each: folder / each / "blobs" for each in site.blobs}
            self._judge_state(f"set, {policy}", files, blobs, policy, history)
            self.counts["restored sets"] += 1

    def _restore_in_place(self, site: Site) -> None:
        """Either from a set, or by a cut of what is there: a new timeline."""
        policy = self.chance.choice(("strict", "strict", "tolerant"))
        history = judge.read_history(_all_files(site))
        if self.chance.random() < 0.6:
            self._cluster(site, "restore", f"--{policy}")
            self.counts["restores of sets in place"] += 1
        else:
            run_tool(
                restore_files.main, ["--cluster-file", str(site.file), f"--{policy}"]
            )
            self.counts["restores by cuts in place"] += 1
        self._judge_state(
            f"restored in place, {policy}", site.files, site.blobs, policy, history
        )
        for path in site.files.values():
            for each in path.parent.glob("*.packed-*"):
                each.unlink()
        site.start_servers()

    def _cluster(self, site: Site, *arguments: str) -> str:
        return run_tool(
            cluster_command.main, ["--cluster-file", str(site.file), *arguments]
        )

    def _count_outcomes(self, site: Site) -> None:
        for _, _, outcome in site.outcomes():
            self.counts[outcome] += 1


def _copied(files: Mapping[str, Path], name: str) -> dict[str, Path]:
    copies = {}
    for storage, path in files.items():
        copies[storage] = path.with_name(f"{name}-{path.name}")
        shutil.copyfile(path, copies[storage])
        shutil.copyfile(point.beside(path), point.beside(copies[storage]))
    return copies


def _present_files(site: Site) -> dict[str, list[Path]]:
    return {storage: [path] for storage, path in site.files.items()}


def _all_files(site: Site) -> dict[str, list[Path]]:
    return {
        storage: [*sorted(path.parent.glob("*.packed-*")), path]
        for storage, path in site.files.items()
    }


def _told(site: Site) -> set[tuple[judge.Key, str]]:
    """What clients were told of their transactions."""
    return {
        ((worker, int(number)), outcome) for worker, number, outcome in site.outcomes()
    }


def _journal(site: Site) -> list[dict[str, Any]]:
    if not site.journal.exists():
        return []
    return [
        json.loads(line)
        for line in site.journal.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


def _journal_length(site: Site) -> int:
    return len(_journal(site))
