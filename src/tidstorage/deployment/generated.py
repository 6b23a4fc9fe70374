"""Every file below etc/ of a cluster, as data: nothing is written here.

buildout writes them through its recipes; anything else can write each file's text to
its target.
"""

import re

from tidstorage.cluster.cluster import Cluster
from tidstorage.deployment import crontab
from tidstorage.deployment.rendering import GeneratedFile, generate
from tidstorage.deployment.server_files import generate_daemon_conf, generate_zeo_conf
from tidstorage.deployment.supervision import generate_supervisord_conf
from tidstorage.deployment.zope_files import generate_zope_files
from tidstorage.system import users

#: {verb that cron runs: the script, with its arguments, that does it}
_COMMANDS = {
    "backup": "tidstorage-repozo --backup --scheduled",
    "verify": "tidstorage-verify",
    "prune": "tidstorage-prune",
    "pack": "tidstorage-pack",
}


def generate_files(cluster: Cluster) -> list[GeneratedFile]:
    """Everything below etc/, each file rendered once.

    Raises: TemplateBroken: where one cannot be rendered.
    """
    files = [generate_zeo_conf(cluster, zeo) for zeo in cluster.zeos]
    for zope in cluster.zopes:
        files += generate_zope_files(cluster, zope)
    files += [
        generate_daemon_conf(cluster),
        *_generate_crontabs(cluster),
        _generate_logrotate_conf(cluster),
    ]
    return [*files, generate_supervisord_conf(cluster, files)]


def _generate_crontabs(cluster: Cluster) -> list[GeneratedFile]:
    """The entries for a user's crontab, and the same for /etc/cron.d."""
    data = {
        "name": cluster.name,
        "entries": [
            {"schedule": schedule, "command": _COMMANDS[verb], "log": f"{verb}.log"}
            for verb, schedule in crontab.list_schedules(cluster).items()
            if schedule is not None
        ],
        "bin_directory": str(cluster.bin_directory),
        "log_directory": str(cluster.log_directory),
    }
    name = re.sub("[^A-Za-z0-9_-]", "-", cluster.name)
    own, system = crontab.user_file(cluster), crontab.system_file(cluster)
    use = "bin/cluster cron --install puts this into your crontab."
    use_of_system = f"instead of that: install -m 644 {system} /etc/cron.d/{name}"
    user = cluster.user or users.owner(cluster.directory)
    return [
        generate("crontab", "crontab.in", own, {**data, "user": None, "use": use}),
        generate(
            "crontab-system",
            "crontab.in",
            system,
            {**data, "user": user, "use": use_of_system},
        ),
    ]


def _generate_logrotate_conf(cluster: Cluster) -> GeneratedFile:
    return generate(
        "logrotate-conf",
        "logrotate.conf.in",
        cluster.etc_directory / "logrotate.conf",
        {
            "name": cluster.name,
            "log_directory": str(cluster.log_directory),
            "zeo_pid_files": [str(zeo.pid_file) for zeo in cluster.zeos],
            "daemon_pid_file": str(cluster.daemon.pid_file),
        },
    )
