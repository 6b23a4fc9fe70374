"""``tidstorage-check-log < TIDLOG``: whether a TID log is whole and goes only on."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.errors import NotCoherent
from tidstorage.points import tid_log


@dataclass(frozen=True, slots=True)
class Finding:
    """Something remarkable in a line; ``wrong``: a sound log does not have it."""

    line: int
    text: str
    wrong: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the script."""
    argparse.ArgumentParser(
        prog="tidstorage-check-log",
        description="Check a TID log on standard input: every line can be read and has"
        " a full line before it, and neither times nor TIDs ever go back.",
        epilog=f"Exit status: 0 for a sound log, {NotCoherent.exit_status} for one that"
        " is not.",
    ).parse_args(arguments)
    return run_reporting_errors(lambda: _check(sys.stdin.buffer))


def _check(lines: Iterable[bytes]) -> int:
    wrong = 0
    for finding in examine(lines):
        console.write(f"line {finding.line}: {finding.text}\n")
        wrong += finding.wrong
    if wrong:
        raise NotCoherent(
            f"the TID log is not sound: {wrong} faults",
            "Use only points from lines before the first fault.",
        )
    return 0


def examine(lines: Iterable[bytes]) -> Iterator[Finding]:
    """Find everything remarkable in a log, in its order."""
    replay = tid_log.Replay()
    newest: dict[str, int] = {}
    time = 0.0
    unreadable: Finding | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if unreadable is not None:
            yield unreadable
            unreadable = None
        (entry,) = tid_log.parse_lines([line])
        if entry is None:
            replay.apply(None)
            # Wrong only in the middle: as the last one it is what a crash leaves.
            unreadable = Finding(number, "cannot be read")
            continue
        if not replay.apply(entry):
            yield Finding(number, "a difference, but there is no full line before it")
        if entry.time < time:
            yield Finding(
                number, f"time goes back, from {time:.2f} to {entry.time:.2f}"
            )
        time = max(time, entry.time)
        for storage, last in entry.tids.items():
            if last < newest.get(storage, 0):
                yield Finding(
                    number,
                    f"{storage} goes back, from {newest[storage]} to {last}",
                )
            newest[storage] = max(newest.get(storage, 0), last)
        if entry.full:
            for storage in sorted(newest.keys() - entry.tids.keys()):
                yield Finding(number, f"{storage} is no longer there", wrong=False)
                del newest[storage]
    if unreadable is not None:
        text = "cannot be read; as the last line, that is what a crash leaves"
        yield Finding(unreadable.line, text, wrong=False)


if __name__ == "__main__":
    sys.exit(main())
