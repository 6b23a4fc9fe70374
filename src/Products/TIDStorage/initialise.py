"""Creates what a new cluster's root database needs before its Zopes start.

Runs inside Zope: ``bin/zope-NAME-console run initialise.py JSON``.  Zopes that
first start together on an empty root would each try to create it.  It may run again:
what is there stays as it is.  The argument
is ``{"mount_points": [path…], "user": name, "password_file": path}``; the last
line it prints is ``initialised: `` and ``{"mounted": [path…], "user": bool}``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import transaction
from Products.ZODBMountPoint.MountedObject import (
    manage_addMounts,
    manage_getMountStatus,
)

MARK = "initialised: "


def add_mount_points(application: Any, paths: list[str]) -> list[str]:
    """Create those of the mount points that are missing; the caller commits.

    Raises: SystemExit: where something else is at the place of one.
    """
    status = {told["path"]: told for told in manage_getMountStatus(application)}
    missing = []
    for path in sorted(paths):
        mount_point = status[path]
        if not mount_point["exists"]:
            missing.append(path)
        elif not mount_point["status"].startswith("Ok"):
            raise SystemExit(f"mount point {path}: {mount_point['status']}")
    manage_addMounts(application, missing)
    return missing


def add_manager(application: Any, name: str, password: str) -> bool:
    """Create the first user, a Manager, where there is none; the caller commits.

    Returns whether the user was created.

    A user folder of another kind belongs to a site that has its own users.
    """
    users = application.acl_users
    names = getattr(users, "getUserNames", None)
    if names is None or names() or not hasattr(users, "_doAddUser"):
        return False
    users._doAddUser(name, password, ["Manager"], [])
    return True


def main(application: Any, request: dict[str, Any]) -> None:
    """Do both, each in a transaction of its own, and say what was done."""
    mounted = add_mount_points(application, request["mount_points"])
    transaction.get().note("create the mount points")
    transaction.commit()
    password = Path(request["password_file"]).read_text().strip()
    added = add_manager(application, request["user"], password)
    transaction.get().note("create the first user")
    transaction.commit()
    print(MARK + json.dumps({"mounted": mounted, "user": added}), flush=True)


if __name__ == "__main__":
    # zconsole sets ``app`` in the script's globals.
    main(globals()["app"], json.loads(sys.argv[-1]))
