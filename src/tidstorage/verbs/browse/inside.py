"""Runs in the Zope that looks at the past, with the packages that its site has.

``python -m tidstorage.verbs.browse.inside SCRIPT serve INI``
``python -m tidstorage.verbs.browse.inside SCRIPT export CONF PATH FILE``

SCRIPT is the site's own ``bin/zope-NAME``: what it says of ``sys.path`` is done
here too.  This process ends as soon as its standard input does, so that none is
left where the command that started it was killed.
"""

import ast
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Exit statuses of ``export``, which its caller turns into errors.
NO_SUCH_OBJECT = 3
SPREAD = 4


def main() -> int:
    """Serve or export; the exit status."""
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    script, verb, *arguments = sys.argv[1:]
    _extend_path(Path(script))
    if verb == "export":
        return _export(*arguments)
    # Before the import, which takes it for a default.
    sys.argv = [script, *arguments]
    from Zope2.Startup import serve

    serve.main()
    return 0


def _end_with_the_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _extend_path(script: Path) -> None:
    """Do what a script below bin/ does, up to the last change of its sys.path."""
    nodes = ast.parse(script.read_text()).body
    changes = [number for number, each in enumerate(nodes) if _changes_path(each)]
    if changes:
        wanted = ast.Module(nodes[: changes[-1] + 1], type_ignores=[])
        exec(compile(wanted, script, "exec"), {"__file__": str(script)})


def _changes_path(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Subscript) and ast.unparse(target.value) == "sys.path"
        for target in node.targets
    )


def _export(configuration: str, path: str, file: str) -> int:
    import Zope2
    from Zope2.Startup.run import configure_wsgi

    configure_wsgi(configuration)
    root = Zope2.app()
    try:
        found = root.unrestrictedTraverse(path.strip("/"))
        oid, connection = found._p_oid, found._p_jar
    except Exception as error:
        # Traversal raises what the site's own classes do.
        print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
        return NO_SUCH_OBJECT
    if oid is None or connection is None:
        print(f"{path}: no object of its own in the database", file=sys.stderr)
        return NO_SUCH_OBJECT
    spread = sorted(set(_elsewhere(connection, oid)))
    if spread:
        print(", ".join(spread), file=sys.stderr)
        return SPREAD
    with Path(file).open("xb") as output:
        connection.exportFile(oid, output)
    return 0


def _elsewhere(connection: Any, oid: bytes) -> Iterator[str]:
    """Other databases that the object, or one below it, refers to."""
    from tidstorage.engines.filestorage.references import find_references

    own = connection.db().database_name
    load: Callable[[bytes], tuple[bytes, bytes]] = connection._storage.load
    seen, pending = {oid}, [oid]
    while pending:
        for database, target in find_references(load(pending.pop())[0], own):
            if database != own:
                yield database
            elif target not in seen:
                seen.add(target)
                pending.append(target)


if __name__ == "__main__":
    sys.exit(main())
