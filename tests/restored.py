"""What a restore left of a cluster's files, and the judge of it."""

import records


def contents(cluster):
    """{path: bytes} of all that a restore may change, but for locks."""
    found = {}
    for storage in cluster.storages:
        folders = [storage.data_file.parent]
        for path in (each for folder in folders for each in folder.rglob("*")):
            if path.is_file() and not path.name.endswith((".lock", ".log", ".conf")):
                found[path] = path.read_bytes()
    return found


def check_restored(cluster, made):
    """The files hold the point, nothing after it, and nothing torn."""
    content = {s.id: records.read(s.data_file) for s in cluster.storages}
    ends = {s: held[-1][0] for s, held in content.items()}
    assert ends == dict(made.point.vector)
    assert records.violations(content, ends) == []
    return content


def failing(error):
    def fail(*arguments, **options):
        raise error

    return fail
