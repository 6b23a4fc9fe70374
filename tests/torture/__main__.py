"""``python -m torture --rounds N --seed S``: run from tests/."""

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torture.rounds import run_round


def main() -> int:
    parser = argparse.ArgumentParser("torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--only", type=int, metavar="ROUND", help="just this round")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="so many rounds at a time"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="append a JSON line a round here"
    )
    parser.add_argument(
        "--summary",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="only print the table of results",
    )
    options = parser.parse_args()
    if options.summary:
        lines = (each.read_text().splitlines() for each in options.summary)
        reports = [json.loads(line) for each in lines for line in each]
    else:
        reports = torture(options)
    print_summary(reports)
    return 1 if any(each["violations"] for each in reports) else 0


def torture(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One round after another, until they are done or it is told to end."""
    # Nothing that was started is to outlive us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    reports = []
    numbers = range(options.rounds) if options.only is None else [options.only]
    try:
        for report in run_rounds(numbers, options.seed, options.jobs):
            reports.append(report)
            line = json.dumps(report)
            print(line, flush=True)
            if options.results:
                with options.results.open("a") as results:
                    results.write(line + "\n")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return reports


def run_rounds(
    numbers: Iterable[int], seed: int, jobs: int
) -> Iterator[dict[str, Any]]:
    """Their reports, as they come."""
    if jobs == 1:
        for number in numbers:
            yield run_round(number, seed)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(run_round, number, seed) for number in numbers]
        try:
            for each in as_completed(pending):
                yield each.result()
        finally:
            # What runs is brought to its end; nothing else begins.
            pool.shutdown(cancel_futures=True)


def print_summary(reports: list[dict[str, Any]]) -> None:
    """The table of a run."""
    totals: Counter[str] = Counter()
    for each in reports:
        totals.update(each["counts"])
    failed = [each for each in reports if each["violations"]]
    rows = [
        ("rounds", len(reports)),
        ("empty rounds", sum(bool(each["missing"]) for each in reports)),
        ("rounds with violations", len(failed)),
        ("violations", sum(len(each["violations"]) for each in reports)),
        ("seconds", round(sum(each["seconds"] for each in reports))),
        *sorted(totals.items()),
    ]
    for name, number in rows:
        print(f"{name:40} {number:>10,}")
    for each in failed:
        seed = each["seed"].partition("-")[0]
        print(f"to see it fail again: --seed {seed} --only {each['round']}")


if __name__ == "__main__":
    sys.exit(main())
