"""``bin/cluster demo``: what a backup is worth without this product, and with it."""

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.commands import console
from tidstorage.commands.front import add_json
from tidstorage.demo import demonstration
from tidstorage.demo.demonstration import Restored

HELP = "Break a scratch cluster under load; restore it by repozo and by TIDStorage."
_LARGEST_SEED = 2**31


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    parser.add_argument(
        "--seed",
        type=int,
        help="a number that decides who is killed and what is moved (default: any)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the scratch cluster's folder"
    )


def run(options: argparse.Namespace, _cluster: Cluster) -> int:
    """Demonstrate in a temporary folder; the real cluster is not touched."""
    seed = options.seed
    if seed is None:
        seed = random.SystemRandom().randrange(_LARGEST_SEED)
    began = time.monotonic()

    def report(text: str) -> None:
        if not options.json:
            console.print_line(f"[{time.monotonic() - began:5.1f} s] {text}")

    folder = Path(tempfile.mkdtemp(prefix="tidstorage-demo-"))
    try:
        results = demonstration.demonstrate(folder, seed, report)
        if options.json:
            console.print_json(
                {"seed": seed, "results": [_as_json(result) for result in results]}
            )
        else:
            _describe(results)
        demonstration.verdict(results)
    finally:
        if options.keep:
            report(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if not options.json:
        console.print_line(
            f"Shown in {time.monotonic() - began:.0f} s with seed {seed}: repozo,"
            " storage by storage, gave a broken site, TIDStorage a coherent one."
        )
    return 0


def _describe(results: list[Restored]) -> None:
    rows = [
        (
            result.title,
            f"{sum(result.findings.transactions.values())}",
            f"{result.lost}",
            f"{len(result.findings.torn)}",
            f"{len(result.findings.dangling)}",
            f"{result.findings.money_missing}",
            "broken" if result.findings.broken else "coherent",
        )
        for result in results
    ]
    console.print_table(
        (
            "restored by",
            "records",
            "lost",
            "torn transfers",
            "dangling references",
            "money missing",
            "verdict",
        ),
        rows,
    )


def _as_json(result: Restored) -> dict[str, Any]:
    findings = result.findings
    return {
        "title": result.title,
        "ours": result.ours,
        "records": findings.transactions,
        "lost": result.lost,
        "transfers": findings.transfers,
        "torn": sorted(findings.torn),
        "dangling": len(findings.dangling),
        "money_missing": findings.money_missing,
        "broken": findings.broken,
    }
