"""The manifests of all sets that are in a backup directory, each read once."""

from pathlib import Path

from tidstorage.errors import EngineFailed, NotCoherent
from tidstorage.sets import manifest
from tidstorage.sets.manifest import Manifest


class ManifestFolder:
    """The folder in which each set has a folder, and their manifests.

    Which sets there are is looked up at each call, since others may write
    meanwhile.  A manifest never changes, so each is read from disk once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: {path of a manifest: what is in it, or why it cannot be believed}.
        self._read: dict[Path, Manifest | NotCoherent] = {}

    def find(self) -> list[Path]:
        """The paths of all manifests, be they sound or broken, newest first.

        Raises:
          EngineFailed: the disk fails.
          PermissionError: the folder may not be read.
        """
        try:
            # Not by a glob, which finds nothing in a folder that it cannot read.
            set_folders = [*self._folder.iterdir()]
        except FileNotFoundError:
            return []
        except PermissionError:
            raise
        except OSError as error:
            raise EngineFailed(
                f"{self._folder} cannot be read: {error.strerror}",
                "Is the disk with the backups there, and well?",
            ) from error
        paths = (folder / manifest.FILE_NAME for folder in set_folders)
        return sorted((path for path in paths if path.exists()), reverse=True)

    def read(self, path: Path) -> Manifest | NotCoherent:
        """The manifest of that path, or why it cannot be believed."""
        if path not in self._read:
            try:
                self._read[path] = manifest.read(path)
            except NotCoherent as error:
                if isinstance(error.__cause__, OSError):
                    # The disk fails now; it may not the next time.
                    return error
                self._read[path] = error
        return self._read[path]

    def read_all(self) -> list[Manifest | NotCoherent]:
        """All manifests, newest first; why it cannot be believed for a broken one.

        Raises: as `find`.
        """
        return [self.read(path) for path in self.find()]
