"""``python -m torture --rounds N --seed S``: run from tests/."""

import argparse
import json
import logging
import sys
from collections import Counter
from pathlib import Path

from torture.rounds import Report, Round


def main() -> int:
    parser = argparse.ArgumentParser("torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--only", type=int, metavar="ROUND", help="just this round")
    parser.add_argument("--results", type=Path, help="append a JSON line a round here")
    options = parser.parse_args()
    # What the broken files of a judge's control look like is no news.
    logging.disable(logging.CRITICAL)
    numbers = range(options.rounds) if options.only is None else [options.only]
    reports = []
    try:
        for number in numbers:
            report = Round(number, options.seed).run()
            reports.append(report)
            line = json.dumps(report.to_json())
            print(line, flush=True)
            if options.results:
                with options.results.open("a") as results:
                    results.write(line + "\n")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print_summary(reports)
    return 1 if any(each.violations for each in reports) else 0


def print_summary(reports: list[Report]) -> None:
    """The table of a run."""
    totals: Counter[str] = Counter()
    for each in reports:
        totals.update(each.counts)
    failed = [each for each in reports if each.violations]
    rows = [
        ("rounds", len(reports)),
        ("empty rounds", sum(bool(each.missing) for each in reports)),
        ("rounds with violations", len(failed)),
        ("violations", sum(len(each.violations) for each in reports)),
        ("seconds", round(sum(each.seconds for each in reports))),
        *((name, n) for name, n in sorted(totals.items()) if "kept in" not in name),
    ]
    for name, number in rows:
        print(f"{name:40} {number:>10,}")
    for each in failed:
        seed = each.seed.partition("-")[0]
        print(f"to see it fail again: --seed {seed} --only {each.number}")


if __name__ == "__main__":
    sys.exit(main())
