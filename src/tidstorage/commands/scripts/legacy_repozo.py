"""``tidstorage_repozo -c CONFIGURATION``: the command line of TIDStorage 5.

It works on a configuration file and repositories of TIDStorage 5.  Where all is well
it says nothing, unless told to, so that cron mails nothing but trouble.
"""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.commands.front import add_dry_run, add_wait
from tidstorage.commands.scripts import restore_files
from tidstorage.errors import NotCoherent
from tidstorage.legacy import (
    backup,
    cleanup,
    configuration,
    crashed,
    recover,
    trial,
)
from tidstorage.legacy.recover import Recovery
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, read_site
from tidstorage.legacy.trial import Comparison
from tidstorage.operation import lock
from tidstorage.verbs.restore.swap import Swap

_CONFIGURATION = re.compile(r"-[a-zA-Z]*c.*|--config(=.*)?", re.DOTALL)
_ADVICE = (
    "before you start the ZEO servers, stop every Zope and remove its ZEO caches:"
    " they hold transactions that the restored files do not have"
)


def is_meant(arguments: Sequence[str]) -> bool:
    """Whether the command line names a configuration of TIDStorage 5."""
    return any(map(_CONFIGURATION.fullmatch, arguments))


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns its exit status."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.tid_log is not None and options.action == "backup":
        parser.error("--tid_log is for a recovery")
    if options.tid_log is None and options.action == "recover_inplace":
        parser.error("--recover_inplace needs --tid_log")
    logging.basicConfig(format="%(levelname)s: %(message)s")
    site = read_site(configuration.load(options.config))
    with lock.waiting(options.wait):
        _ACTIONS[options.action](site, _make_repozo(options), options)
    return 0


def _make_repozo(options: argparse.Namespace) -> Repozo:
    passed = [flag for flag in ("-Q", "-z", "-F") if getattr(options, flag[1])]
    return Repozo(options.repozo, (*passed, *options.arguments))


def _back_up(site: Site, repozo: Repozo, options: argparse.Namespace) -> None:
    if options.dry_run:
        for storage in site.storages:
            console.print_line(
                f"{storage.data_file} would be saved in {storage.repository}"
            )
        return
    second = backup.back_up(site, repozo)
    if options.v:
        number = len(site.storages)
        console.print_line(
            f"Saved {number} FileStorages out of {number}, {second} UTC."
        )


def _recover(site: Site, repozo: Repozo, options: argparse.Namespace) -> None:
    if options.dry_run:
        _describe_recovery(site, recover.plan(site, options.tid_log), "would be")
    else:
        done = recover.recover(site, repozo, options.tid_log)
        _describe_recovery(site, done, "was")
        console.print_warning(_ADVICE)


def _describe_recovery(site: Site, recovery: Recovery | Swap, verb: str) -> None:
    if isinstance(recovery, Swap):
        console.print_line(
            f"The interrupted restore of the backup of {recovery.set_id} UTC {verb}"
            " brought to its end."
        )
        return
    vector = recovery.vector
    for storage in site.storages:
        end = ""
        if vector is not None:
            end = f", cut after transaction {tid.to_text(vector[storage.id])}"
        console.print_line(
            f"{storage.data_file} {verb} restored from the backup of"
            f" {recovery.second} UTC: {recovery.sizes[storage.id]:,} bytes{end}"
        )
    if vector is None:
        console.print_warning(
            "without --tid_log the files are as they were copied, one after another:"
            " a transaction may be in one file and not in another"
        )


def _check(site: Site, repozo: Repozo, options: argparse.Namespace) -> None:
    different = 0
    for comparison in trial.compare(site, repozo, options.tid_log):
        _describe_comparison(comparison)
        different += comparison.different is not None
    if different:
        raise NotCoherent(
            f"{different} of {len(site.storages)} copies are not what their live file"
            " begins with",
            "If the file was packed, cut or restored since the backup, that is why. If"
            " it was not, the copy is wrong: make a full one now (--full).",
        )


def _describe_comparison(comparison: Comparison) -> None:
    text = (
        f"{comparison.storage}: the copy has {comparison.size:,} bytes, the live file"
        f" {comparison.live_size:,}"
    )
    if comparison.position is not None:
        text += f"; a restore would cut the copy at byte {comparison.position:,}"
    if comparison.different is None:
        console.print_line(f"{text}; the file begins with the copy")
    else:
        console.print_line(
            f"{text}; they are different from byte {comparison.different:,} on"
        )


def _cut_in_place(site: Site, _repozo: Repozo, options: argparse.Namespace) -> None:
    with crashed.request_in_place(site, options.tid_log) as request:
        outcome = restore_files.cut(request, options.dry_run)
    restore_files.describe_plan(outcome, options.dry_run)
    if not options.dry_run:
        console.print_warning(_ADVICE)


def _clean_up(site: Site, _repozo: Repozo, options: argparse.Namespace) -> None:
    if options.dry_run:
        for path in cleanup.plan(site):
            console.print_line(f"would be removed: {path}")
        return
    for path in cleanup.clean_up(site):
        if options.v:
            console.print_line(f"removed: {path}")


_ACTIONS = {
    "backup": _back_up,
    "recover": _recover,
    "recover_check": _check,
    "recover_inplace": _cut_in_place,
    "cleanup": _clean_up,
}


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidstorage_repozo",
        description="Back up or restore all storages that a configuration file of"
        " TIDStorage 5 names.  Without an action: back up.",
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        type=Path,
        required=True,
        metavar="CONFIGURATION",
        help="the configuration file",
    )
    add("--repozo", metavar="COMMAND", help="the repozo to run (default: ZODB's own)")
    action = parser.add_mutually_exclusive_group()
    for flags, help_text in (
        (("-R", "--recover"), "restore the last backup that succeeded"),
        (
            ("--recover_check",),
            "put the last backup together in a temporary folder, and compare it with"
            " the live files",
        ),
        (
            ("--recover_inplace",),
            "use no backup: cut the present files at the last point of a TID log",
        ),
        (
            ("--cleanup",),
            "remove old copies; keep as many full ones as keep_full_backup_count says",
        ),
    ):
        action.add_argument(
            *flags,
            action="store_const",
            dest="action",
            const=flags[-1].lstrip("-"),
            default="backup",
            help=help_text,
        )
    add(
        "-t",
        "--tid_log",
        type=Path,
        metavar="TIDLOG",
        help="cut the restored files at the last point of this TID log",
    )
    add("-Q", "--quick", dest="Q", action="store_true", help="passed to repozo")
    add("-z", "--gzip", dest="z", action="store_true", help="passed to repozo")
    add("-F", "--full", dest="F", action="store_true", help="passed to repozo")
    add("-v", "--verbose", dest="v", action="store_true", help="say what is done")
    add_dry_run(parser, "say what would be done")
    add("arguments", nargs="*", metavar="ARGUMENT", help="passed to repozo as it is")
    add_wait(parser)
    return parser
