"""The same work on several things at once, which ends soon where one of them fails.

A pool of threads alone would go on with all the others first, for hours, also
after an interruption by the keyboard.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Called by the work every second or so; raises `Abandoned`.
Check = Callable[[], None]


class Abandoned(Exception):
    """Something else failed, so that the end of this work is of no use to anybody."""


def run(
    jobs: int, work: Callable[[Item, Check], Result], items: Iterable[Item]
) -> list[Result]:
    """What ``work`` returns for each item, in their order; ``jobs`` at a time.

    Raises what the first of them raised that failed.
    """
    failed = threading.Event()

    def check() -> None:
        if failed.is_set():
            raise Abandoned

    def checked(item: Item) -> Result:
        check()
        return work(item, check)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(checked, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            failed.set()
            raise
        return [future.result() for future in futures]
