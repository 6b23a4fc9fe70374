"""Serves, or exports from, restored storages: ``bin/cluster browse`` runs this file.

``python browse.py SCRIPT serve INI``
``python browse.py SCRIPT export CONF PATH FILE``

SCRIPT is the site's own ``bin/zope-NAME``.  Its changes of ``sys.path`` are made here
too, so that this process has the packages of the site.  The process ends as soon as
its standard input ends, so that none is left where the command that started it was
killed.
"""

import ast
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def main() -> int:
    """Serve or export, as the command line says; the exit status."""
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    script, verb, *arguments = sys.argv[1:]
    # First of all: what is imported below comes from where the site has it.
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
    """Run a script below bin/ up to its last change of sys.path, and no further."""
    statements = ast.parse(script.read_text()).body
    changes = [
        number
        for number, statement in enumerate(statements)
        if _changes_path(statement)
    ]
    if changes:
        beginning = ast.Module(statements[: changes[-1] + 1], type_ignores=[])
        exec(compile(beginning, script, "exec"), {"__file__": str(script)})


def _changes_path(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Subscript) and ast.unparse(target.value) == "sys.path"
        for target in statement.targets
    )


def _export(configuration: str, path: str, file: str) -> int:
    import Zope2
    from Zope2.Startup.run import configure_wsgi

    from tidstorage.verbs.browse import export_status

    configure_wsgi(configuration)
    root = Zope2.app()
    try:
        published = root.unrestrictedTraverse(path.strip("/"))
        oid, connection = published._p_oid, published._p_jar
    except Exception as error:
        # Traversal raises what the site's own classes raise.
        print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
        return export_status.NO_SUCH_OBJECT
    if oid is None or connection is None:
        print(f"{path}: no object of its own in the database", file=sys.stderr)
        return export_status.NO_SUCH_OBJECT
    others = sorted(set(_find_other_databases(connection, oid)))
    if others:
        print(", ".join(others), file=sys.stderr)
        return export_status.SEVERAL_DATABASES
    with Path(file).open("xb") as output:
        connection.exportFile(oid, output)
    return 0


def _find_other_databases(connection: Any, oid: bytes) -> Iterator[str]:
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
