"""A stop and a start in the night wait for nothing that they do not need."""

import json
import subprocess
import sys

import pytest
from built_clusters import scratch_cluster

pytestmark = pytest.mark.integration
#: Packages of ours, and others, that neither a start nor a stop has any use for.
FORBIDDEN = {
    "tidstorage.daemon",
    "tidstorage.demo",
    "tidstorage.deployment",
    "tidstorage.hook",
    "tidstorage.legacy",
    "tidstorage.sets",
    "tidstorage.verbs",
    "tidstorage.zeo",
    "ZEO",
    "cronsim",
    "jinja2",
}
#: How points stand in JSON, and whose history the data files are of.
NEEDED = {"tidstorage.sets"} | {
    f"tidstorage.sets.{module}" for module in ("stored", "history", "marker")
}
CODE = """
import json, sys
from tidstorage.commands import cluster
status = cluster.main(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_neither_imports_backup_packing_or_schedules(tmp_path, verb):
    cluster = scratch_cluster(tmp_path)
    ended = subprocess.run(
        [
            *(sys.executable, "-P", "-c", CODE),
            *("--cluster-file", str(cluster.file), verb, "--dry-run"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = ended.stdout.splitlines()
    status, modules = json.loads(lines[-1])
    # The cluster is not initialised: a start would be refused.
    assert (status, len(lines)) == {"stop": (0, 2), "start": (6, 1)}[verb], ended
    unneeded = {
        name
        for name in modules
        if any(name == other or name.startswith(f"{other}.") for other in FORBIDDEN)
    }
    assert not unneeded - NEEDED
