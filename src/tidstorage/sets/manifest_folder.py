"""The manifests of all sets that are in a backup directory, each read once."""

import os
from pathlib import Path

from tidstorage.errors import NotCoherent, SetUnreadable
from tidstorage.sets import manifest
from tidstorage.sets.manifest import Manifest
from tidstorage.system import presence

#: What is known of one manifest: itself, why it cannot be believed, or why nobody
#: could read it.
ManifestOrWhyNot = Manifest | NotCoherent | SetUnreadable


class ManifestFolder:
    """The folder in which each set has a folder, and their manifests.

    Which sets there are is looked up at each call, since others may write
    meanwhile.  A manifest never changes, so each is read from disk once.

    A set has one folder, which has its id.  A link to such a folder, or a copy under
    another name, is no set: whatever was done to it by the manifest's id would be
    done to the set itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: {path of a manifest: what is in it, or why it cannot be believed}.
        self._read: dict[Path, ManifestOrWhyNot] = {}

    def find(self) -> list[Path]:
        """The paths of all sets' manifests, sound or not, newest first.

        One is among them too where nobody could tell whether it is there.

        Raises: SetUnreadable: where the folder cannot be read.
        """
        paths = (folder / manifest.FILE_NAME for folder in self.list_folders())
        return sorted((path for path in paths if _may_be_there(path)), reverse=True)

    def list_folders(self) -> list[Path]:
        """What may be the folder of a set, made, begun or half removed, by name.

        Raises: as `find`.
        """
        folders, _ = self._list_entries()
        return [
            folder
            for folder in folders
            if self._id_of_another(folder / manifest.FILE_NAME) is None
        ]

    def find_strangers(self) -> list[str]:
        """Links and copies of set folders, which are no sets of their own, in words.

        Raises: as `find`.
        """
        folders, links = self._list_entries()
        strangers = [f"{link} is a link" for link in links]
        for folder in folders:
            set_id = self._id_of_another(folder / manifest.FILE_NAME)
            if set_id is not None:
                strangers.append(f"{folder} holds the manifest of set {set_id}")
        return [f"{what}: it is no set, and is left alone" for what in strangers]

    def read_strangers(self) -> list[Manifest]:
        """The manifests that are there in links and copies of set folders.

        Whose set is gone may have been moved: what it names is not free for others.

        Raises: SetUnreadable: as `find`, and where such a manifest could not be read.
        """
        folders, links = self._list_entries()
        strangers: list[ManifestOrWhyNot] = []
        for folder in links:
            content = self.read(folder / manifest.FILE_NAME)
            if isinstance(content, SetUnreadable):
                raise content
            strangers.append(content)
        for folder in folders:
            path = folder / manifest.FILE_NAME
            if self._id_of_another(path) is not None:
                strangers.append(self.read(path))
        return [content for content in strangers if isinstance(content, Manifest)]

    def _list_entries(self) -> tuple[list[Path], list[Path]]:
        """Whatever is in the folder and is no link; and what is one."""
        try:
            # Not by a glob, which finds nothing in a folder that it cannot read.
            with os.scandir(self._folder) as entries:
                is_link = {Path(entry.path): entry.is_symlink() for entry in entries}
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise SetUnreadable(
                f"{self._folder} cannot be read: {presence.describe(error)}",
                "Is the disk with the backups there, and well, and may it be read?",
            ) from error
        links = sorted(path for path in is_link if is_link[path])
        return sorted(is_link.keys() - set(links)), links

    def _id_of_another(self, path: Path) -> str | None:
        """Id of the set whose manifest it is, where its folder has another name."""
        content = self.read(path)
        if isinstance(content, Manifest) and content.id != path.parent.name:
            return content.id
        return None

    def is_link(self, path: Path) -> bool:
        """Whether the folder that a manifest lies in is known to be a link."""
        try:
            return path.parent.is_symlink()
        except OSError:
            # To read the manifest will tell why not.
            return False

    def read(self, path: Path) -> ManifestOrWhyNot:
        """The manifest of that path, or why there is none to be believed."""
        if path not in self._read:
            try:
                self._read[path] = manifest.read(path)
            except SetUnreadable as error:
                # The disk fails now; it may not the next time.
                return error
            except NotCoherent as error:
                if isinstance(error.__cause__, presence.ABSENT):
                    # It is not there yet, or no more.
                    return error
                self._read[path] = error
        return self._read[path]

    def items(self) -> list[tuple[Path, ManifestOrWhyNot]]:
        """(path, manifest or why it is not to be believed) of all, newest first.

        Raises: as `find`.
        """
        return [(path, self.read(path)) for path in self.find()]

    def read_all(self) -> list[ManifestOrWhyNot]:
        """All manifests, newest first; for another one why it is not to be believed.

        Raises: as `find`.
        """
        return [content for _, content in self.items()]


def _may_be_there(path: Path) -> bool:
    try:
        return presence.is_there(path)
    except OSError:
        # To read it will tell why nobody knows.
        return True
