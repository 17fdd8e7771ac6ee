"""Reading ahead in a thread, so that the source works while the caller computes.

Drivers and pyarrow release the interpreter lock while they wait and convert; on one core it only costs the queue.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates `items` in a thread of its own, at most `ahead` items ahead of the caller.

    An error of the iterator is raised where the caller stands, after the items before it. `close` makes the thread end:
    `cancel` is called when it is busy inside the iterator, and the iterator itself is never touched by two threads.
    Call `close` once done, also after an error; iterating is possible once.
    """

    def __init__(self, items: Iterator[T], cancel: Callable[[], None], ahead: int = 2) -> None:
        self._items, self._cancel = items, cancel
        self._queue: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dataops-prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            end = error
        self._put(end)

    def _put(self, entry: tuple[T] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while not self._stopped.is_set():
            entry = self._queue.get()
            if entry is None:
                return
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]

    def close(self) -> None:
        """Ends the thread and waits for it. Safe to call again."""
        self._stopped.set()
        while self._thread.is_alive():
            self._cancel()
            self._thread.join(timeout=0.2)
