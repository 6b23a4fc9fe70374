"""The demonstration: kills under load, backups, and then restores side by side."""

import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.demo import checker, scratch_cluster
from tidstorage.demo.checker import Findings
from tidstorage.demo.customers import Load
from tidstorage.errors import DemonstrationFailed
from tidstorage.points.beside import point_path
from tidstorage.processes import control
from tidstorage.system import child
from tidstorage.verbs.restore import crashed_files, restore
from tidstorage.verbs.restore.plan import Request

Tell = Callable[[str], None]

#: Kills after which it gives up; nearly each kill of a server tears a transaction.
MOST_KILLS = 15
#: Seconds of load before and after each event.
BREATH = 1.5
#: Seconds after which a victim is killed even though nothing was answered.
MOST_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore made of the backups, or of the files.

    title: who restored.  ours: whether that was us.  lost: number of records that the
    live files held at the end and these do not.
    """

    title: str
    ours: bool
    findings: Findings
    lost: int


@dataclass(slots=True)
class TornCluster:
    """A stopped cluster that was really torn, with its backups.

    plain: {storage id: repozo repository}, each storage on its own.
    """

    cluster: Cluster
    plain: dict[str, Path]
    kills: list[str]
    answers: Mapping[int, int]
    live: Findings


def demonstrate(folder: Path, seed: int, tell: Tell) -> list[Restored]:
    """Run all of it in an empty folder; what each restore made.

    seed: decides what the customers do and what is killed; the moments are up to the
    machine.

    Raises: DemonstrationFailed: where nothing could be shown.
    """
    return compare(tear(folder, seed, tell), tell)


def tear(folder: Path, seed: int, tell: Tell) -> TornCluster:
    """Load, kill and back up until the live files are torn; then stop."""
    chance = random.Random(seed)
    tell("starting a scratch cluster: 2 ZEO servers, 4 storages, 2 Zopes")
    with scratch_cluster.running(folder) as cluster:
        load = Load(
            cluster.zopes,
            [storage.id for storage in cluster.storages],
            scratch_cluster.ACCOUNTS,
            len(cluster.zopes) * scratch_cluster.THREADS,
            seed,
        )
        plain = {
            storage.id: folder / "plain" / storage.id for storage in cluster.storages
        }
        load.start()
        try:
            _breathe()
            tell("backing up under load: bin/cluster backup")
            scratch_cluster.command(cluster, "cluster", "backup")
            kills = _kill_until_torn(cluster, load, chance, tell)
            _breathe()
            tell("backing up under load again, and each storage by plain repozo")
            scratch_cluster.command(cluster, "cluster", "backup")
            _plain_backup(cluster, plain)
        finally:
            load.stop()
    live = checker.check(
        scratch_cluster.data_files(cluster), scratch_cluster.expected_money(cluster)
    )
    return TornCluster(cluster, plain, kills, load.answers, live)


def _breathe(seconds: float = BREATH) -> None:
    """Let the load run: the time itself is what is wanted here."""
    time.sleep(seconds)


def _kill_until_torn(
    cluster: Cluster, load: Load, chance: random.Random, tell: Tell
) -> list[str]:
    """A Zope first, then ZEO servers, until a transfer is torn in the live files."""
    kills: list[str] = []
    while len(kills) < MOST_KILLS:
        # The load has to run again: a kill amid nothing tears nothing.
        load.await_answers(chance.randint(20, 60), MOST_PATIENCE)
        if kills:
            server = chance.choice(cluster.zeos)
            scratch_cluster.kill_amid_a_commit(cluster, server)
            kills.append(server.name)
        else:
            zope = chance.choice(cluster.zopes)
            scratch_cluster.kill(zope)
            kills.append(zope.name)
        control.start(cluster)
        load.stop()
        torn = _torn(cluster)
        load.start()
        tell(f"SIGKILL of {kills[-1]}: {len(torn)} torn transfers in the live data")
        if torn and len(kills) > 1:
            return kills
    raise DemonstrationFailed(
        f"{MOST_KILLS} kills tore nothing", "It is a matter of chance: run it again."
    )


def _torn(cluster: Cluster) -> set[str]:
    """Judged on copies, which is sound since nobody writes now."""
    folder = cluster.directory / "look"
    files = _copies(cluster, folder)
    torn = checker.check(files, scratch_cluster.expected_money(cluster)).torn
    shutil.rmtree(folder)
    return torn


def _copies(cluster: Cluster, folder: Path) -> dict[str, Path]:
    copies = {}
    for storage in cluster.storages:
        (folder / storage.id).mkdir(parents=True)
        copies[storage.id] = folder / storage.id / "Data.fs"
        shutil.copyfile(storage.data_file, copies[storage.id])
    return copies


def _repozo(cluster: Cluster, *arguments: str) -> None:
    scratch_cluster.run(cluster, [*child.python("ZODB.scripts.repozo"), *arguments])


def _plain_backup(cluster: Cluster, repositories: Mapping[str, Path]) -> None:
    for storage in cluster.storages:
        repository = repositories[storage.id]
        repository.mkdir(parents=True)
        _repozo(cluster, "-BF", "-r", str(repository), "-f", str(storage.data_file))


def compare(torn: TornCluster, tell: Tell) -> list[Restored]:
    """Restore by both, check by one checker, and tell what each lost or broke."""
    tell("restoring: plain repozo, bin/cluster restore --strict, and the cut files")
    return [
        _judge(torn, "repozo, storage by storage", False, _restored_by_repozo(torn)),
        _judge(torn, "bin/cluster restore --strict", True, _restored_by_us(torn)),
        _judge(torn, "crashed files as they are", False, _left_as_they_are(torn)),
        _judge(torn, "tidstorage-restore --strict", True, _cut_in_place(torn)),
    ]


def _judge(
    torn: TornCluster, title: str, ours: bool, data_files: Mapping[str, Path]
) -> Restored:
    findings = checker.check(data_files, scratch_cluster.expected_money(torn.cluster))
    held = sum(torn.live.transactions.values())
    return Restored(title, ours, findings, held - sum(findings.transactions.values()))


def _restored_by_repozo(torn: TornCluster) -> dict[str, Path]:
    restored = {}
    for storage_id, repository in torn.plain.items():
        target = torn.cluster.directory / "restored-plain" / storage_id / "Data.fs"
        target.parent.mkdir(parents=True)
        _repozo(torn.cluster, "-R", "-r", str(repository), "-o", str(target))
        restored[storage_id] = target
    return restored


def _restored_by_us(torn: TornCluster) -> dict[str, Path]:
    folder = torn.cluster.directory / "restored"
    folder.mkdir()
    restore.restore_elsewhere(torn.cluster, Request(policy="strict"), folder)
    return {storage: folder / storage / "Data.fs" for storage in torn.plain}


def _left_as_they_are(torn: TornCluster) -> dict[str, Path]:
    return _copies(torn.cluster, torn.cluster.directory / "crashed")


def _cut_in_place(torn: TornCluster) -> dict[str, Path]:
    paths = _copies(torn.cluster, torn.cluster.directory / "cut")
    for storage in torn.cluster.storages:
        shutil.copyfile(point_path(storage.data_file), point_path(paths[storage.id]))
    crashed_files.restore(
        crashed_files.Request(paths, {}, frozenset(), policy="strict")
    )
    return paths


def verdict(results: list[Restored]) -> None:
    """See that what plain repozo restored is broken, and what we restored is not.

    Raises: DemonstrationFailed: where it is otherwise.
    """
    broken = [made.title for made in results if made.ours and made.findings.broken]
    if broken:
        raise DemonstrationFailed(
            f"broken: {', '.join(broken)}", "This is a defect: please report it."
        )
    if not results[0].findings.broken:
        raise DemonstrationFailed(
            "plain repozo happened to be coherent this time",
            "It is a matter of chance: run it again.",
        )
