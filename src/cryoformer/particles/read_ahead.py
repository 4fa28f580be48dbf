"""What comes next is read while the work on what came before goes on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

What = TypeVar("What")
Read = TypeVar("Read")


def read_ahead(read: Callable[[What], Read], items: Iterable[What], ahead: int = 2) -> Iterator[tuple[What, Read]]:
    """Each item with what ``read`` makes of it, in order; up to ``ahead`` of them are read in advance, in one thread.

    An error of ``read`` is raised where its item is due.
    """
    coming = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        waiting: deque[tuple[What, Future[Read]]] = deque()
        try:
            waiting.extend((item, pool.submit(read, item)) for item in islice(coming, ahead))
            while waiting:
                item, result = waiting.popleft()
                yield item, result.result()
                waiting.extend((more, pool.submit(read, more)) for more in islice(coming, 1))
        finally:
            # The consumer may stop early: nothing more is read then.
            pool.shutdown(wait=False, cancel_futures=True)
