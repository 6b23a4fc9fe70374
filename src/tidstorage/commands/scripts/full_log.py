"""``tidstorage-full-log < TIDLOG``: writes the same TID log in full lines only."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.errors import NotCoherent
from tidstorage.points import tid_log


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the script."""
    argparse.ArgumentParser(
        prog="tidstorage-full-log",
        description="Read a TID log from standard input, write it to standard output"
        " with every difference replaced by the full line it stands for.",
        epilog=f"Exit status: 0 if every line was written, {NotCoherent.exit_status} if"
        " some had to be left out (named on standard error).",
    ).parse_args(arguments)
    return run_reporting_errors(lambda: _rewrite(sys.stdin.buffer))


def _rewrite(lines: Iterable[bytes]) -> int:
    left_out = []
    for number, text in read_full_lines(lines):
        if text is None:
            left_out.append(number)
        else:
            console.write(text)
    if left_out:
        raise NotCoherent(
            f"{len(left_out)} lines left out, the first is line {left_out[0]}: they"
            " cannot be read, or have no full line before them",
            "tidstorage-check-log says what is wrong with each.",
        )
    return 0


def read_full_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, str | None]]:
    """Yields (line number, full line), with None for a line that cannot be used.

    A last line that a crash has torn is passed over.
    """
    replay = tid_log.Replay()
    lost: int | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if lost is not None:
            yield lost, None
            lost = None
        (entry,) = tid_log.parse_lines([line])
        if replay.apply(entry) and entry is not None:
            full = tid_log.LogLine(entry.time, True, replay.vector)
            yield number, tid_log.format_line(full)
        elif entry is None:
            lost = number
        else:
            yield number, None


if __name__ == "__main__":
    sys.exit(main())
