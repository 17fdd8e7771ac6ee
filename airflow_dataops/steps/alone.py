"""What fails alone: an error that must not stop the siblings of what failed becomes part of a result."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TypedDict

from airflow_dataops.core.errors import DataOpsError, told


class Why(TypedDict):
    """As the results of the steps carry it."""

    error: str
    error_code: str


class Alone:
    """`with Alone(log, "table x could not be swept") as failed: return …`, then what is returned instead, of `failed.why`. An error
    of ours is a line in the log, one that nobody expected its traceback."""

    why: Why

    def __init__(self, log: logging.Logger, what: str) -> None:
        self.log, self.what = log, what

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        if isinstance(error, DataOpsError):
            self.log.warning("%s: %s", self.what, error)
        else:
            self.log.error("%s", self.what, exc_info=error)
        text, code = told(error)
        self.why = Why(error=text, error_code=code)
        return True
