"""The same work on several things at once; where one of them fails, all end soon.

A pool of threads alone would first finish all the others, which may take hours, also
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
    """Ends work whose result is of no use any more, since other work failed."""


def run(
    jobs: int, work: Callable[[Item, Check], Result], items: Iterable[Item]
) -> list[Result]:
    """Do the work on all items, ``jobs`` at a time; what it returns, in their order.

    Raises: what the first work that failed raised.
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
