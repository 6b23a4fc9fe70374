"""The configuration of supervisord, and what it hands to the programs it starts."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.deployment.rendering import GeneratedFile, generate

#: The variable in which supervisor hands a program the digest of its configuration
#: (templates/supervisord.conf.in).
DIGEST_VARIABLE = "TIDSTORAGE_CONFIGURATION"
_DIGEST_LENGTH = 16


def digest(content: bytes) -> str:
    """The first hex digits of the SHA-256 of what a program is configured with."""
    return hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH]


def generate_supervisord_conf(
    cluster: Cluster, files: Iterable[GeneratedFile]
) -> GeneratedFile:
    """The configuration of supervisord; files: those that its programs read.

    It changes where one of them does, so that supervisor sees what to start anew.
    """
    texts = {file.target: file.text for file in files}

    def describe(
        name: str, priority: int, configurations: list[Path], arguments: str = ""
    ) -> dict[str, Any]:
        text = "".join(texts[path] for path in configurations)
        return {
            "name": name,
            "command": f"{cluster.bin_directory}/{name}{arguments}",
            "priority": priority,
            "digest": digest(text.encode()),
        }

    programs = [
        *(
            describe(f"zeo-{zeo.name}", 100, [zeo.configuration])
            for zeo in cluster.zeos
        ),
        # bin/tidstorage has its configuration; --fg keeps it under supervision.
        describe("tidstorage", 200, [cluster.daemon.configuration], " --fg"),
        *(
            describe(
                f"zope-{zope.name}", 300, [zope.configuration, zope.wsgi_configuration]
            )
            for zope in cluster.zopes
        ),
    ]
    return generate(
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
