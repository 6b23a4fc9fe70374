"""What reads and packs the files of a site while servers write them."""

import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

from ZEO.ClientStorage import ClientStorage
from ZODB.TimeStamp import TimeStamp

from tidstorage.points.beside import POINT_SUFFIX, point_path, read_point
from torture.site import Site


class Files:
    """copies: folders of files that were copied one after another.

    whole: held by what must not meet a pack.
    """

    def __init__(self, site: Site, chance: random.Random, counts: Counter[str]) -> None:
        self.site = site
        self.chance = chance
        self.counts = counts
        self.copies: list[Path] = []
        self.whole = threading.Lock()

    def pack(self, storage: str) -> None:
        """Below the point beside the file, through its server."""
        if not self.whole.acquire(blocking=False):
            return
        server = self.site.server_of(storage)
        try:
            data_file = self.site.files[storage]
            beside = point_path(data_file)
            last = read_point(beside).vector[storage] if beside.exists() else 0
            if not last:
                return
            client = ClientStorage(
                server.address, storage=storage, wait_timeout=2, cache_size=1 << 20
            )
            try:
                # Through floats a time may come out above its TID.
                client.pack(TimeStamp(last.to_bytes(8, "big")).timeTime() - 0.001)
                self.counts["packs"] += 1
            finally:
                client.close()
                self.keep_packed()
        except Exception as error:
            # The server is killed amid packs, too, and raises what it likes.
            self.counts[f"failed packs ({type(error).__name__})"] += 1
        finally:
            self.whole.release()

    def keep_packed(self) -> None:
        """Keep what files were before their packs, for the judge."""
        for data_file in self.site.files.values():
            old = data_file.with_name(f"{data_file.name}.old")
            # A server that was killed amid the renames needs it.
            if old.exists() and data_file.exists():
                number = len(list(data_file.parent.glob("*.packed-*")))
                old.rename(data_file.with_name(f"{data_file.name}.packed-{number}"))

    def copy(self) -> None:
        """All files, unless one is being packed."""
        if not self.whole.acquire(blocking=False):
            return
        try:
            self.copies.append(self.copy_now(f"copy-{len(self.copies)}", 0.15))
            self.counts["copies"] += 1
        finally:
            self.whole.release()

    def copy_now(self, name: str, pause: float) -> Path:
        """All files, one after another, with the point from before; their folder.

        pause: seconds between two of them, at most.
        """
        folder = self.site.folder / f"{name}-{self.counts['timelines']}"
        folder.mkdir()
        order = self.chance.sample(self.site.storages, len(self.site.storages))
        beside = {each: point_path(self.site.files[each]) for each in order}
        points = {
            each: path.read_bytes() for each, path in beside.items() if path.exists()
        }
        for each in order:
            _copy_live(self.site.files[each], folder / f"{each}.fs")
            if each in points:
                (folder / f"{each}.fs{POINT_SUFFIX}").write_bytes(points[each])
            time.sleep(self.chance.uniform(0, pause))
        return folder


def _copy_live(path: Path, other: Path) -> None:
    """Read, then write: what the kernel copies by itself may be of two times.

    Zeros then stand where a vote was cut off meanwhile, before bytes of that vote.
    """
    with path.open("rb") as source, other.open("wb") as target:
        shutil.copyfileobj(source, target)
