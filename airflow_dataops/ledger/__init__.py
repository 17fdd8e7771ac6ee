"""The ledger: where a batch's fate is decided (DESIGN §5)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_dataops.ledger.sql_ledger import SqlLedger


def open_ledger(url: str, *, clock: Callable[[], float] = time.time) -> SqlLedger:
    """The ledger at an SQLAlchemy URL (`sqlite:////path/ledger.db`, `postgresql://user:password@host/database`; `sqlite://`
    lives in memory as long as it is open), created or migrated when it has to be.

    InventoryError for a URL that cannot be used or a ledger of a newer version, UnavailableError when it does not answer.
    """
    from airflow_dataops.ledger.sql_ledger import SqlLedger

    return SqlLedger(url, clock)
