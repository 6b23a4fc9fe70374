"""What an operator does to a site: backups, and what becomes of half commits."""

import itertools
import random
import signal
import time
from collections import Counter

from tidstorage.errors import CannotUndo
from torture import published
from torture.site import PATIENCE, Site

#: Statuses that no verb may end with here: a traceback, and a wrong command line.
_WRONG = (1, 2)


class Operator:
    """Runs ``bin/cluster``, and remembers what it asked for.

    asked: commits that were to be accepted, or undone.  rebased: whether all was.
    undone: commits that are said to be.
    """

    _numbers = itertools.count(1)

    def __init__(self, site: Site, chance: random.Random, counts: Counter[str]) -> None:
        self.site = site
        self.chance = chance
        self.counts = counts
        self.faults: list[str] = []
        self.asked: set[str] = set()
        self.rebased = False
        self.undone: set[str] = set()
        #: Of the journal: what stands before may be of files that were replaced.
        self._length = len(published.journal(site))
        self._tried: set[str] = set()

    def back_up(self, killed: float = 0) -> bool:
        return self._run("backups", "backup", killed=killed) == 0

    def acknowledge(self, killed: float = 0) -> int | None:
        """One half commit; its status, None where there is nothing to accept."""
        commit = self._open_one(set())
        if commit is None:
            return None
        self.asked.add(commit)
        return self._run(
            "acknowledgements", "damage", "--acknowledge", commit, killed=killed
        )

    def undo(self, killed: float = 0) -> int | None:
        """Once for each: after a kill nobody knows whether it is undone already."""
        commit = self._open_one(self._tried)
        if commit is None:
            return None
        self.asked.add(commit)
        self._tried.add(commit)
        status = self._run("undos", "damage", "--undo", commit, killed=killed)
        if status == 0:
            self.undone.add(commit)
        return status

    def rebase(self, killed: float = 0) -> int | None:
        self.rebased = True
        return self._run("rebases", "rebase", "--yes", killed=killed)

    def tidy_up(self) -> None:
        """While nothing else happens every verb has to do what it is asked for."""
        what = self.chance.random()
        if what < 0.4:
            if self.undo() not in (None, 0, CannotUndo.exit_status):
                self.faults.append("an undo failed while nothing else happened")
        elif what < 0.6:
            if self.acknowledge() not in (None, 0):
                self.faults.append("an acceptance failed while nothing else happened")
        elif what < 0.7 and self.rebase():
            self.faults.append("a rebase failed while nothing else happened")

    def _open_one(self, but: set[str]) -> str | None:
        """The newest half commit that the daemon has named, and nobody accepted."""
        lines = published.of_present_timeline(
            published.journal(self.site)[self._length :]
        )
        named = [each["commit"] for each in lines if each["kind"] == "damage"]
        open_ones = [
            each for each in named if each not in but | published.accepted(lines)
        ]
        return open_ones[-1] if open_ones else None

    def _run(self, what: str, *arguments: str, killed: float) -> int:
        """killed: with this chance, amid its work."""
        output = self.site.folder / f"operator-{next(self._numbers)}.output"
        process = self.site.run_cluster(arguments, output)
        if self.chance.random() < killed:
            time.sleep(self.chance.uniform(0.3, 1.5))
            process.send_signal(signal.SIGKILL)
            self.counts[f"kills of {what}"] += 1
        status: int = process.wait(PATIENCE)
        said = output.read_text() if output.exists() else ""
        if status == 0:
            self.counts[what] += 1
        elif status > 0:
            self.counts[f"refused {what} ({status})"] += 1
            if "Traceback" in said or status in _WRONG:
                self.faults.append(f"{' '.join(arguments)}: {said[-800:]}")
        return status
