"""Python's collector of cycles, kept out of the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Reading an inventory makes a hundred objects a row, and nearly all of them stay: looking for cycles among them again and
    again takes a quarter of the time at 1,000 rows, and more the more there are (measured)."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
