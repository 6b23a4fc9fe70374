"""``tidstorage_repozo -c CONFIGURATION``: the original's command line.

It works on the original's configuration file and repositories; quiet on success
unless told otherwise, so that cron mails nothing but trouble.
"""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.commands.front import add_wait
from tidstorage.commands.scripts import restore_files
from tidstorage.errors import NotCoherent
from tidstorage.legacy import backup, cleanup, configuration, crashed, recover
from tidstorage.legacy import rehearsal as trial
from tidstorage.legacy.rehearsal import Comparison
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import Site, site
from tidstorage.operation import lock
from tidstorage.verbs.restore import crashed_files

_CONFIGURATION = re.compile(r"-[a-zA-Z]*c.*|--config(=.*)?", re.DOTALL)
_ADVICE = (
    "start the ZEO servers only when every Zope is stopped and its ZEO caches are"
    " removed: what they know is of a lost timeline"
)


def is_meant(arguments: Sequence[str]) -> bool:
    """Whether the command line names a configuration of the original."""
    return any(map(_CONFIGURATION.fullmatch, arguments))


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.tid_log is not None and options.action == "backup":
        parser.error("--tid_log is for a recovery")
    if options.tid_log is None and options.action == "recover_inplace":
        parser.error("--recover_inplace needs --tid_log")
    logging.basicConfig(format="%(levelname)s: %(message)s")
    found = site(configuration.load(options.config))
    with lock.waiting(options.wait):
        _ACTIONS[options.action](found, _repozo(options), options)
    return 0


def _repozo(options: argparse.Namespace) -> Repozo:
    passed = [flag for flag in ("-Q", "-z", "-F") if getattr(options, flag[1])]
    return Repozo(options.repozo, (*passed, *options.arguments))


def _back_up(found: Site, repozo: Repozo, options: argparse.Namespace) -> None:
    if options.dry_run:
        for each in found.storages:
            console.print_line(f"{each.data_file} would be saved in {each.repository}")
        return
    second = backup.back_up(found, repozo)
    if options.v:
        number = len(found.storages)
        console.print_line(
            f"Saved {number} FileStorages out of {number}, {second} UTC."
        )


def _recover(found: Site, repozo: Repozo, options: argparse.Namespace) -> None:
    if options.dry_run:
        done = recover.rehearse(found, options.tid_log)
        verb = "would be restored"
    else:
        done = recover.recover(found, repozo, options.tid_log)
        verb = "was restored"
    if done.resumed:
        console.print_line(f"A restore of {done.second} UTC was brought to its end.")
    for each in found.storages if done.sizes else ():
        end = "" if done.vector is None else f", cut at {_place(each.id, done)}"
        console.print_line(
            f"{each.data_file} {verb} from {done.second} UTC:"
            f" {done.sizes[each.id]:,} bytes{end}"
        )
    if done.sizes and done.vector is None:
        console.print_warning(
            "without --tid_log the files are as they were copied, one after another:"
            " transactions may be torn"
        )
    if not options.dry_run:
        console.print_warning(_ADVICE)


def _place(storage: str, done: recover.Recovered) -> str:
    assert done.vector is not None
    return tid.to_text(done.vector[storage])


def _check(found: Site, repozo: Repozo, options: argparse.Namespace) -> None:
    wrong = 0
    for each in trial.compare(found, repozo, options.tid_log):
        _describe(each)
        wrong += each.different is not None
    if wrong:
        raise NotCoherent(
            f"{wrong} of {len(found.storages)} copies are not the beginning of the"
            " live file",
            "Was it packed, cut or restored since the backup? Else the next backup has"
            " to be a full one (--full).",
        )


def _describe(each: Comparison) -> None:
    text = f"{each.storage}: {each.size:,} bytes, of {each.live:,} live"
    if each.position is not None:
        text += f"; would be cut at byte {each.position:,}"
    if each.different is None:
        console.print_line(f"{text}; the same as far as it goes")
    else:
        console.print_line(f"{text}; different from byte {each.different:,} on")


def _cut_in_place(found: Site, _repozo: Repozo, options: argparse.Namespace) -> None:
    run = crashed_files.preview if options.dry_run else crashed_files.restore
    outcome = crashed.cut_in_place(found, options.tid_log, run)
    restore_files.describe_plan(outcome, options.dry_run)
    if not options.dry_run:
        console.print_warning(_ADVICE)


def _clean_up(found: Site, _repozo: Repozo, options: argparse.Namespace) -> None:
    excess = cleanup.clean_up(found, options.dry_run)
    verb = "would be removed" if options.dry_run else "removed"
    for each in excess.files if options.v or options.dry_run else ():
        console.print_line(f"{verb}: {each}")


_ACTIONS = {
    "backup": _back_up,
    "recover": _recover,
    "recover_check": _check,
    "recover_inplace": _cut_in_place,
    "cleanup": _clean_up,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidstorage_repozo",
        description="Back up, or recover, all storages that a configuration file of the"
        " original names.",
    )
    add = parser.add_argument
    add("-c", "--config", type=Path, required=True, metavar="CONFIGURATION")
    add("--repozo", metavar="COMMAND", help="the repozo to run (default: ZODB's own)")
    action = parser.add_mutually_exclusive_group()
    for flags, help_text in (
        (("-R", "--recover"), "restore the last backup that succeeded"),
        (("--recover_check",), "restore it for a trial, and compare with the files"),
        (
            ("--recover_inplace",),
            "cut the present files at a TID log's last point",
        ),
        (("--cleanup",), "remove all but keep_full_backup_count full copies"),
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
        help="cut the restored files at its last point",
    )
    add("-Q", "--quick", dest="Q", action="store_true", help="as repozo's")
    add("-z", "--gzip", dest="z", action="store_true", help="as repozo's")
    add("-F", "--full", dest="F", action="store_true", help="as repozo's")
    add("-v", "--verbose", dest="v", action="store_true", help="say what is done")
    add("--dry-run", action="store_true", help="say what would be done")
    add("arguments", nargs="*", metavar="ARGUMENT", help="passed to repozo as it is")
    add_wait(parser)
    return parser
