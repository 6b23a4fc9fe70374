"""Every generated file and script of a cluster, as data: nothing is written here.

buildout writes them through its recipes; anything else can write
``render(file)`` to ``file.target``.
"""

import hashlib
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from tidstorage.cluster.cluster import Cluster, Storage, Zeo, Zope
from tidstorage.deployment import crontab
from tidstorage.errors import TemplateBroken
from tidstorage.system import users
from tidstorage.system.address import address_text

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
#: Hex digits of the SHA-256 of what a program was configured with, and the
#: variable in which supervisor hands them to it (templates/supervisord.conf.in).
DIGEST_LENGTH = 16
DIGEST_VARIABLE = "TIDSTORAGE_CONFIGURATION"


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A template, what goes into it (JSON), and where the result belongs."""

    name: str
    template: str
    target: Path
    data: dict[str, Any]


def render(file: GeneratedFile) -> str:
    """The text of a generated file; TemplateBroken names the template's line."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(TEMPLATES)
    )
    try:
        return environment.get_template(file.template).render(data=file.data)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateBroken(
            f"{TEMPLATES / file.template}, line {error.lineno}: {error.message}"
        ) from error
    except jinja2.TemplateNotFound as error:
        raise TemplateBroken(f"{TEMPLATES / str(error.name)}: not there") from error
    except Exception as error:
        # An expression in a template can raise whatever Python can.
        raise TemplateBroken(f"{_place(error, file.template)}: {error}") from error


def _place(error: Exception, template: str) -> str:
    """Template and line; jinja2 makes tracebacks name both."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).parent == TEMPLATES:
            return f"{frame.filename}, line {frame.lineno}"
    return str(TEMPLATES / template)


def generated_files(cluster: Cluster) -> list[GeneratedFile]:
    """Everything below etc/."""
    files = [_zeo(cluster, zeo) for zeo in cluster.zeos]
    for zope in cluster.zopes:
        files += [_zope(cluster, zope), _console(cluster, zope), _wsgi(zope)]
    files += [_daemon(cluster), *_crontabs(cluster), _logrotate(cluster)]
    return [*files, _supervisor(cluster, files)]


def _server_of(cluster: Cluster, storage: Storage) -> str:
    return address_text(cluster.zeo(storage.zeo).address)


def _zeo(cluster: Cluster, zeo: Zeo) -> GeneratedFile:
    return GeneratedFile(
        f"zeo-{zeo.name}-conf",
        "zeo.conf.in",
        zeo.configuration,
        {
            "name": zeo.name,
            "address": address_text(zeo.address),
            "pid_file": str(zeo.pid_file),
            "log": str(zeo.log),
            "storages": [
                {
                    "id": each.id,
                    "path": str(each.data_file),
                    "blob_dir": _text_or_none(each.blob_directory),
                }
                for each in cluster.storages_of(zeo.name)
            ],
        },
    )


def _text_or_none(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _zope(cluster: Cluster, zope: Zope) -> GeneratedFile:
    return GeneratedFile(
        f"zope-{zope.name}-conf",
        "zope.conf.in",
        zope.configuration,
        {
            "name": zope.name,
            "directory": str(cluster.directory),
            "client_label": zope.name,
            "cache_directory": str(zope.cache_directory),
            "keeps_client_caches": True,
            "pid_file": str(zope.pid_file),
            "threads": zope.threads,
            "backend_ip": cluster.daemon.host,
            "backend_port": cluster.daemon.port,
            "environment": zope.environment,
            "additional": zope.zope_conf_additional,
            "storages": [
                {
                    "id": each.id,
                    "database": each.database_name,
                    "mount_point": each.mount_point,
                    "server": _server_of(cluster, each),
                    "cache_size": each.cache_size,
                    "client_cache_size": each.client_cache_size,
                    "blob_dir": _text_or_none(each.blob_directory),
                }
                for each in cluster.storages
            ],
        },
    )


def _console(cluster: Cluster, zope: Zope) -> GeneratedFile:
    """For a second process beside the Zope, which has its cache files locked."""
    file = _zope(cluster, zope)
    name = f"{zope.name}-console"
    return GeneratedFile(
        f"zope-{name}-conf",
        file.template,
        console_configuration(zope),
        {**file.data, "client_label": name, "keeps_client_caches": False},
    )


def console_configuration(zope: Zope) -> Path:
    """The zope.conf of a Zope's console."""
    path = zope.configuration
    return path.with_name(f"{path.stem}-console{path.suffix}")


def _wsgi(zope: Zope) -> GeneratedFile:
    return GeneratedFile(
        f"zope-{zope.name}-ini",
        "wsgi.ini.in",
        zope.wsgi_configuration,
        {
            "name": zope.name,
            "configuration": str(zope.configuration),
            "host": zope.host,
            "port": zope.port,
            "threads": zope.threads,
            "log": str(zope.log),
        },
    )


def _daemon(cluster: Cluster) -> GeneratedFile:
    daemon = cluster.daemon
    return GeneratedFile(
        "tidstorage-conf",
        "tidstorage.conf.in",
        daemon.configuration,
        {
            "address": daemon.host,
            "port": daemon.port,
            "tid_log": str(daemon.tid_log),
            "journal": str(daemon.journal),
            "log": str(daemon.log),
            "pid_file": str(daemon.pid_file),
            "burst_period": daemon.burst_period,
            "full_dump_period": daemon.full_dump_period,
            "storages": [
                {
                    "id": each.id,
                    "server": _server_of(cluster, each),
                    "path": str(each.data_file),
                    "aliases": list(each.aliases),
                }
                for each in cluster.storages
            ],
            "retired": sorted(cluster.retired),
            "zopes": [each.name for each in cluster.zopes],
        },
    )


def _crontabs(cluster: Cluster) -> list[GeneratedFile]:
    """The entries for a user's crontab, and the same for /etc/cron.d."""
    commands = {
        "backup": "tidstorage-repozo --backup --scheduled",
        "verify": "tidstorage-verify",
        "prune": "tidstorage-prune",
        "pack": "tidstorage-pack",
    }
    data = {
        "name": cluster.name,
        "entries": [
            {"schedule": schedule, "command": commands[verb], "log": f"{verb}.log"}
            for verb, schedule in crontab.schedules(cluster).items()
            if schedule is not None
        ],
        "bin_directory": str(cluster.bin_directory),
        "log_directory": str(cluster.log_directory),
    }
    name = re.sub("[^A-Za-z0-9_-]", "-", cluster.name)
    own, system = crontab.rendered(cluster), crontab.rendered_for_system(cluster)
    return [
        GeneratedFile(
            "crontab",
            "crontab.in",
            own,
            {
                **data,
                "user": None,
                "use": "bin/cluster cron --install puts this into your crontab.",
            },
        ),
        GeneratedFile(
            "crontab-system",
            "crontab.in",
            system,
            {
                **data,
                "user": cluster.user or users.owner(cluster.directory),
                "use": f"instead of that: install -m 644 {system} /etc/cron.d/{name}",
            },
        ),
    ]


def _logrotate(cluster: Cluster) -> GeneratedFile:
    return GeneratedFile(
        "logrotate-conf",
        "logrotate.conf.in",
        cluster.etc_directory / "logrotate.conf",
        {
            "name": cluster.name,
            "log_directory": str(cluster.log_directory),
            "zeo_pid_files": [str(each.pid_file) for each in cluster.zeos],
            "daemon_pid_file": str(cluster.daemon.pid_file),
        },
    )


def _supervisor(cluster: Cluster, files: Iterable[GeneratedFile]) -> GeneratedFile:
    texts = {file.target: render(file) for file in files}

    def program(
        name: str, priority: int, configurations: list[Path], arguments: str = ""
    ) -> dict[str, Any]:
        text = "".join(texts[each] for each in configurations)
        digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
        return {
            "name": name,
            "command": f"{cluster.bin_directory}/{name}{arguments}",
            "priority": priority,
            "digest": digest,
        }

    programs = [
        program(f"zeo-{each.name}", 100, [each.configuration]) for each in cluster.zeos
    ]
    # bin/tidstorage has its configuration; --fg keeps it under supervision.
    programs.append(program("tidstorage", 200, [cluster.daemon.configuration], " --fg"))
    programs += [
        program(f"zope-{each.name}", 300, [each.configuration, each.wsgi_configuration])
        for each in cluster.zopes
    ]
    return GeneratedFile(
        "supervisord-conf",
        "supervisord.conf.in",
        cluster.supervisor_configuration,
        {
            "name": cluster.name,
            "directory": str(cluster.directory),
            "socket": str(cluster.supervisor_socket),
            "log_directory": str(cluster.log_directory),
            "run_directory": str(cluster.run_directory),
            "user": cluster.user,
            "programs": programs,
        },
    )
