"""What gzip costs: ``python benchmarks/compressors.py FILE``.

CPU seconds a GiB, and what is left of it, of a stretch of a Data.fs (`realistic.py`):
the standard library as repozo uses it, isal, and zlib-ng where that is installed.
Each is tried several times in turn, and the least counts: others use the machine too.
"""

import argparse
import hashlib
import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

GIB = 1 << 30
BLOCK = 1 << 20
#: zlib's word for a gzip header.
GZIP = 31
LEVELS = {
    "zlib": (9, 6, 1),
    "isal.isal_zlib": (0, 1, 2, 3),
    "zlib_ng.zlib_ng": (1, 2, 3, 6),
}
#: The compressors whose output is decompressed by all.
READ = (("zlib", 9), ("isal.isal_zlib", 2))


def compressed(library: Any, level: int, blocks: Iterable[bytes]) -> bytes:
    compressor = library.compressobj(level, 8, GZIP)
    return b"".join(map(compressor.compress, blocks)) + compressor.flush()


def decompressed(library: Any, content: bytes) -> int:
    decompressor = library.decompressobj(GZIP)
    stretches = (content[at : at + BLOCK] for at in range(0, len(content), BLOCK))
    return sum(len(decompressor.decompress(each)) for each in stretches)


def digest(name: str, blocks: Iterable[bytes]) -> None:
    found = hashlib.new(name, usedforsecurity=False)
    for block in blocks:
        found.update(block)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=int, default=32 << 20, help="bytes of it")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with options.file.open("rb") as opened:
        opened.seek(max(0, options.file.stat().st_size // 2 - options.size))
        blocks = [opened.read(BLOCK) for _ in range(options.size // BLOCK)]
    size = sum(map(len, blocks))
    works: dict[str, Callable[[], Any]] = {}
    for name, levels in LEVELS.items():
        try:
            library = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed")
            continue
        for level in levels:
            works[f"{name} {level}"] = lambda i=library, n=level: compressed(
                i, n, blocks
            )
        for other, level in READ:
            content = compressed(importlib.import_module(other), level, blocks)
            works[f"{name} reads {other} {level}"] = lambda i=library, c=content: (
                decompressed(i, c)
            )
    for name in ("md5", "sha256"):
        works[name] = lambda n=name: digest(n, blocks)
    least = dict.fromkeys(works, float("inf"))
    left = {}
    for _ in range(options.rounds):
        for name, work in works.items():
            began = time.process_time()
            result = work()
            least[name] = min(least[name], time.process_time() - began)
            if isinstance(result, bytes):
                left[name] = len(result) / size
    for name, seconds in least.items():
        share = f"{left[name]:.3f} of it left" if name in left else ""
        print(f"{name:34} {seconds * GIB / size:6.2f} s of CPU a GiB  {share}".rstrip())


if __name__ == "__main__":
    main()
