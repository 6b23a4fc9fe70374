"""The configurations of the ZEO servers and of the coherency daemon."""

from tidstorage.cluster.cluster import Cluster, Zeo
from tidstorage.deployment.rendering import GeneratedFile, generate
from tidstorage.system.address import address_text


def generate_zeo_conf(cluster: Cluster, zeo: Zeo) -> GeneratedFile:
    """The configuration of one ZEO server."""
    return generate(
        f"zeo-{zeo.name}-conf",
        "zeo.conf.in",
        zeo.configuration,
        {
            "name": zeo.name,
            "address": address_text(zeo.address),
            "pid_file": str(zeo.pid_file),
            "log": str(zeo.log),
            "keep_old": cluster.pack.keep_old,
            "storages": [
                {
                    "id": storage.id,
                    "path": str(storage.data_file),
                    "blob_dir": storage.blob_directory and str(storage.blob_directory),
                }
                for storage in cluster.storages_of(zeo.name)
            ],
        },
    )


def generate_daemon_conf(cluster: Cluster) -> GeneratedFile:
    """The configuration of the daemon."""
    daemon = cluster.daemon
    return generate(
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
            "alarm_after": daemon.alarm_after,
            "storages": [
                {
                    "id": storage.id,
                    "server": address_text(cluster.zeo(storage.zeo).address),
                    "path": str(storage.data_file),
                    "aliases": list(storage.aliases),
                }
                for storage in cluster.storages
            ],
            "retired": sorted(cluster.retired),
            "zopes": [zope.name for zope in cluster.zopes],
        },
    )
