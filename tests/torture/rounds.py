"""One round: a bank on a new site, tortured, then cut and restored, and judged."""

import logging
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_processes import wait_until

from tidstorage.commands.scripts import restore_files
from tidstorage.points.beside import point_path, read_point, write_beside
from tidstorage.zeo import barrier
from torture import judge, moments, published
from torture.events import Events
from torture.operator import Operator
from torture.report import Report
from torture.site import PATIENCE, Site
from torture.tools import Cutter, cut_by_our_tool, run_cluster, run_tool
from torture.verdicts import Known, Verdict

#: Seconds after which files are read anew while the daemon is waited for.
_REREAD = 0.2


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
        self.known = Known()
        self.asked: set[str] = set()
        self.timeline = 0
        self.said: set[str] = set()
        self.rebased = False
        self.others = others
        self.restored = restored
        self.counts = self.report.counts

    def run(self, folder: Path | None = None) -> Report:
        """Run it in a folder, or in one that is removed when nothing was violated."""
        began = time.monotonic()
        scratch = folder or Path(tempfile.mkdtemp(prefix="torture-"))
        site = None
        ended = False
        try:
            site = Site(scratch, self.chance)
            self._run(site)
            ended = True
        except Exception as error:
            ended = True
            # A round that cannot be brought to its end is one that failed.
            self.report.violations.append(
                f"did not end: {type(error).__name__}: {error}"
            )
        finally:
            if site is not None:
                site.close()
            if folder is None and not (ended and self.report.violations):
                shutil.rmtree(scratch, ignore_errors=True)
        self.report.seconds = time.monotonic() - began
        if self.report.violations:
            self.report.kept = str(scratch)
        return self.report

    def _run(self, site: Site) -> None:
        site.start_servers()
        first = barrier.take_instant(barrier.storages_of(site.cluster)).point()
        write_beside(first, site.files.values())
        verdict = self._stretch(site)
        if self.restored:
            self._restore_in_place(site, verdict)
            if self.chance.random() < 0.25:
                site.add_storage()
                self.counts["storages added"] += 1
            site.start_servers()
            self._stretch(site)
        self._count_outcomes(site)

    def _stretch(self, site: Site) -> Verdict:
        """Load and events, then standstill, and everything is judged."""
        self.counts["timelines"] += 1
        operator = Operator(site, self.chance, self.counts)
        events = Events(site, self.chance, self.counts, operator)
        length = len(published.journal(site))
        timeline = _timeline(site)
        # Where there was nothing to cut the daemon goes on, and begins nothing.
        if timeline != self.timeline:
            self.timeline, self.said = timeline, set()
        told = _told(site)
        log = site.cluster.daemon.tid_log
        logged = (log.stat().st_ino, log.stat().st_size) if log.exists() else (0, 0)
        site.daemon.start()
        copy = self._load(site, events, length)
        self._end_site(site)
        self.report.violate("harness or tool", events.faults + operator.faults)
        history = judge.read_history(_all_files(site))
        self.counts["half commits"] += len(history.torn().keys() - self.known.torn)
        self.counts["half commits undone"] += len(
            {key for _, key in history.undone} - {key for _, key in self.known.undone}
        )
        lines = published.journal(site)
        self.asked |= operator.asked
        self.rebased |= operator.rebased
        self.known.add(history, published.accepted(lines))
        verdict = Verdict(self.report, site, history, self.known, self.cut)
        self.said = verdict.journal(
            lines[length:],
            self.asked,
            said=self.said,
            restored=self.counts["timelines"] > 1,
            rebased=self.rebased,
        )
        same = log.stat().st_ino == logged[0]
        verdict.vectors("TID log", judge.read_tid_log(log, logged[1] if same else 0))
        verdict.vectors("barrier", events.barriers)
        verdict.outcomes(_told(site) - told)
        verdict.undos(operator.undone)
        for each in (*events.files.copies, copy):
            verdict.copy(each)
        verdict.crash()
        verdict.sets()
        present = published.of_present_timeline(lines[length:])
        moments.bring_back(verdict, present, self.chance)
        return verdict

    def _load(self, site: Site, events: Events, length: int) -> Path:
        """From the first client's start to standstill; the last copies."""
        events.start_load()
        wait_until(lambda: _is_under_way(site), "every client commits", PATIENCE)
        if self.chance.random() < 0.7:
            wait_until(site.dump, "the daemon has its first point", PATIENCE)
        events.run(self.others)
        copy = events.files.copy_now("last-copy", 0.1)
        events.stop_load(kill=self.chance.random() < 0.7)
        events.files.keep_packed()
        events.operator.tidy_up()
        self._settle(site, length)
        wanted = site.grown or not self.counts["backups"]
        if wanted and not events.operator.back_up():
            self.report.violate("backup", ["none succeeded"])
        return copy

    def _settle(self, site: Site, length: int) -> None:
        """The daemon has to cover all that is there, and to write down what is torn.

        length: of the journal, when the stretch began.
        """
        for server in site.servers.values():
            with server.lock:
                assert server.runs(), f"{server.name} does not run"
        assert site.daemon.runs(), "the daemon does not run"
        lacking = ""
        read = 0.0
        history: judge.History | None = None

        def covered() -> bool:
            nonlocal lacking, read, history
            # The last words of a killed client may be under way still, and a finish
            # changes a byte, no more.
            if history is None or time.monotonic() > read + _REREAD:
                history, read = judge.read_history(_all_files(site)), time.monotonic()
            lines = published.journal(site)
            lacking = _lacking(
                history, site, lines[length:], published.accepted(lines), self.said
            )
            return not lacking

        began = time.monotonic()
        try:
            wait_until(covered, "the point covers all", PATIENCE)
        except AssertionError:
            self.report.violate("daemon", [f"once nobody writes: {lacking}"])
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

    def _restore_in_place(self, site: Site, verdict: Verdict) -> None:
        """Either from a set, or by a cut of what is there: a new timeline."""
        policy = self.chance.choice(("strict", "strict", "tolerant"))
        if self.chance.random() < 0.6:
            run_cluster(site.file, "restore", f"--{policy}")
            self.counts["restores of sets in place"] += 1
        else:
            run_tool(
                restore_files.main, ["--cluster-file", str(site.file), f"--{policy}"]
            )
            self.counts["restores by cuts in place"] += 1
        verdict.state(
            "in place", policy, site.files, verdict.may_hold(policy), site.blobs
        )
        for path in site.files.values():
            for each in path.parent.glob("*.packed-*"):
                each.unlink()

    def _count_outcomes(self, site: Site) -> None:
        for _, _, outcome in site.outcomes():
            self.counts[f"client: {outcome}"] += 1


def run_round(number: int, seed: int) -> dict[str, Any]:
    """One, as a line of the results; in a process that does nothing else."""
    # What the broken files of a judge's control look like is no news.
    logging.disable(logging.CRITICAL)
    return Round(number, seed).run().to_json()


def _is_under_way(site: Site) -> bool:
    """Whether each client has had its first answer."""
    begun = {worker.partition(".")[0] for worker, *_ in site.outcomes()}
    return all(each.name in begun for each in site.clients.values())


def _timeline(site: Site) -> int:
    beside = [point_path(each) for each in site.files.values()]
    # One that was just added has none.
    return max(read_point(each).timeline for each in beside if each.exists())


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


def _lacking(
    history: judge.History,
    site: Site,
    lines: Sequence[published.Line],
    accepted: set[str],
    said: set[str],
) -> str:
    """What the daemon has not said yet of what is there; "" where it has said all."""
    present = published.of_present_timeline(lines)
    if unnamed := published.unnamed(history, present, accepted | said):
        return f"half commits {unnamed} are not named"
    points = [each for each in present if each["kind"] == "point"]
    named = {half["commit"] for each in points[-1:] for half in each["damage"]}
    if named & accepted:
        return f"half commits {named & accepted} are named, and were accepted"
    point = site.dump()
    return "" if point == history.ends else f"{point} stays below {history.ends}"
