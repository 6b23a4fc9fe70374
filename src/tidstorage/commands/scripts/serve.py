"""``bin/zeo-NAME``: a ZEO server, once unfinished ends of its files are cut off.

A server that was killed amid a vote leaves a transaction, never finished, at the
end of a file.  FileStorage drops it at the next start, and yet reports its TID as
the storage's last one.  Every stamp made from then on would name a TID that no file
holds, and no cut could satisfy it.  So it is cut off before the server starts.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import open_cluster
from tidstorage.errors import UnknownPart
from tidstorage.processes.before_serving import mend_files


def main(arguments: Sequence[str] | None = None) -> int:
    """Mend the files of one server, then run it in this process; its exit status."""
    parser = argparse.ArgumentParser("serve", description="Run one ZEO server.")
    parser.add_argument("--cluster-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("name", help="the server's name in the description")
    options = parser.parse_args(arguments)
    return run_reporting_errors(lambda: _serve(options))


def _serve(options: argparse.Namespace) -> int:
    cluster = open_cluster(options.cluster_file)
    if options.name not in {zeo.name for zeo in cluster.zeos}:
        raise UnknownPart(f"{cluster.file} has no ZEO server {options.name}")
    mend_files(cluster, options.name, console.print_warning)
    from ZEO import runzeo

    configuration = cluster.zeo(options.name).configuration
    sys.argv[1:] = []
    runzeo.main(["-C", str(configuration)])
    return 0
