"""The files of a Zope: its zope.conf, that of its console, and its wsgi.ini."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster, Zope
from tidstorage.deployment.rendering import GeneratedFile, generate
from tidstorage.system.address import address_text


def generate_zope_files(cluster: Cluster, zope: Zope) -> list[GeneratedFile]:
    """All files of one Zope."""
    template, data = "zope.conf.in", _describe(cluster, zope)
    # A second process beside the Zope, which has its cache files locked.
    console = f"{zope.name}-console"
    of_console = {**data, "client_label": console, "keeps_client_caches": False}
    return [
        generate(f"zope-{zope.name}-conf", template, zope.configuration, data),
        generate(
            f"zope-{console}-conf", template, console_configuration(zope), of_console
        ),
        generate_wsgi(
            f"zope-{zope.name}-ini",
            zope.wsgi_configuration,
            HttpServer(
                zope.name,
                configuration=zope.configuration,
                host=zope.host,
                port=zope.port,
                threads=zope.threads,
                log=zope.log,
            ),
        ),
    ]


def console_configuration(zope: Zope) -> Path:
    """Where the zope.conf of a Zope's console is."""
    path = zope.configuration
    return path.with_name(f"{path.stem}-console{path.suffix}")


def _describe(cluster: Cluster, zope: Zope) -> dict[str, Any]:
    return {
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
                "id": storage.id,
                "database": storage.database_name,
                "mount_point": storage.mount_point,
                "server": address_text(cluster.zeo(storage.zeo).address),
                "cache_size": storage.cache_size,
                "client_cache_size": storage.client_cache_size,
                "blob_dir": storage.blob_directory and str(storage.blob_directory),
            }
            for storage in cluster.storages
        ],
    }


@dataclass(frozen=True, slots=True)
class HttpServer:
    """Where a Zope serves, and logs; name: what a comment calls it.

    configuration: its zope.conf.
    """

    name: str
    configuration: Path
    host: str
    port: int
    threads: int
    log: Path


def generate_wsgi(name: str, target: Path, server: HttpServer) -> GeneratedFile:
    """The wsgi.ini of a Zope, whose HTTP server is waitress."""
    return generate(
        name,
        "wsgi.ini.in",
        target,
        {
            "name": server.name,
            "configuration": str(server.configuration),
            "host": server.host,
            "port": server.port,
            "threads": server.threads,
            "log": str(server.log),
        },
    )
