"""The scripts of a cluster in ``bin/``, and what each of them calls."""

from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster, Zope
from tidstorage.deployment.zope_files import console_configuration


@dataclass(frozen=True, slots=True)
class Script:
    """A script below bin/: an entry point, and arguments before those of the user.

    eggs: the distributions it can import.  position: where in ``sys.argv`` the
    arguments are put; zconsole has its mode first.
    runs_zope: whether Zope, with the products of the site, runs in it.
    """

    name: str
    entry_point: str
    eggs: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    position: int = 1
    runs_zope: bool = False


def list_scripts(cluster: Cluster) -> list[Script]:
    """Every script of the cluster."""
    ours = ("Products.TIDStorage",)
    description = ("--cluster-file", str(cluster.file))
    scripts = [
        Script("cluster", "tidstorage.commands.cluster:main", ours, description),
        Script(
            "tidstorage",
            "tidstorage.commands.scripts.daemon:main",
            ours,
            ("-c", str(cluster.daemon.configuration)),
        ),
        Script(
            "tidstorage-repozo",
            "tidstorage.commands.scripts.repozo:main",
            ours,
            description,
        ),
        Script(
            "tidstorage-restore",
            "tidstorage.commands.scripts.restore_files:main",
            ours,
            description,
        ),
        *(
            Script(
                f"tidstorage-{verb}",
                f"tidstorage.commands.scripts.scheduled:{verb}",
                ours,
                description,
            )
            for verb in ("verify", "prune", "pack")
        ),
        Script("tidstorage-cut", "tidstorage.commands.scripts.cut:main", ours),
        Script("tidstorage-dump", "tidstorage.commands.scripts.dump:main", ours),
        Script(
            "tidstorage-check-log", "tidstorage.commands.scripts.check_log:main", ours
        ),
        Script(
            "tidstorage-full-log", "tidstorage.commands.scripts.full_log:main", ours
        ),
    ]
    for zeo in cluster.zeos:
        scripts.append(
            Script(
                f"zeo-{zeo.name}",
                "tidstorage.commands.scripts.serve:main",
                ours,
                (*description, zeo.name),
            )
        )
    for zope in cluster.zopes:
        scripts += _list_zope_scripts(zope)
    return scripts


def _list_zope_scripts(zope: Zope) -> list[Script]:
    eggs = (
        "Products.TIDStorage",
        "Products.ZODBMountPoint",
        "Zope",
        "Zope2",
        *zope.eggs,
    )
    return [
        Script(
            f"zope-{zope.name}",
            "Zope2.Startup.serve:main",
            eggs,
            (str(zope.wsgi_configuration),),
            runs_zope=True,
        ),
        Script(
            f"zope-{zope.name}-console",
            "Zope2.utilities.zconsole:main",
            eggs,
            (str(console_configuration(zope)),),
            position=2,
            runs_zope=True,
        ),
    ]
