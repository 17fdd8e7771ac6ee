"""Every error of the product, grouped by what the caller should do.

    DataOpsError
    ├── RetryError          try again later: nothing is wrong with the row or the data
    │   ├── UnavailableError    a system did not answer (source, lake, catalog, ledger)
    │   ├── ConflictError       somebody else changed what we built on; re-plan
    │   │   └── StaleError          the batch was planned before another run got there; plan it again
    │   ├── BusyError           another run holds the table's partition
    │   └── FencedError         a later attempt owns this batch: touch nothing more, claim again and look
    ├── RecordError         one record cannot go on: dead-letter it, continue with its neighbours
    ├── HoldError           this table must wait for a person; its siblings go on
    │   └── DriftHeldError      breaking drift
    ├── InventoryError      fix the inventory (or a connection, or a setting); retrying cannot help
    └── StopError           stop: continuing could lose or double rows
        ├── ProofError          the accounting, a footer or a fingerprint does not agree
        ├── ForeignChangeError  somebody outside the product changed the catalog
        ├── LimitError          a limit of the row was reached (dead letters, size, time)
        └── RangeError          the asked range cannot be read again (overlap, no history)

Message form: *Cannot ⟨verb⟩ ⟨object⟩ ⟨name⟩: ⟨found⟩ -> ⟨expected⟩. ⟨Why⟩. ⟨What to do⟩.*
"""

from __future__ import annotations


class DataOpsError(Exception):
    """Base of all product errors. `code` is stable and machine-readable (snake case, from the class name)."""

    code: str = "dataops"
    retryable: bool = False

    def __init_subclass__(cls) -> None:
        name = cls.__name__.removesuffix("Error")
        cls.code = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class RetryError(DataOpsError):
    """Try again later; the same call may succeed."""

    retryable = True


class UnavailableError(RetryError):
    """An outside system did not answer or dropped the connection."""


class ConflictError(RetryError):
    """A compare-and-swap lost its race, or a plan's assumption no longer holds: re-plan from what is there now."""


class StaleError(ConflictError):
    """The batch was planned before another run moved the watermark, took its files or stood in its way: plan it again."""


class BusyError(RetryError):
    """Another unfinished batch holds this table partition and its lease still runs."""


class FencedError(RetryError):
    """A later attempt owns this batch; this one must not have any further effect."""


class RecordError(DataOpsError):
    """One record cannot go on; it becomes a dead letter."""


class HoldError(DataOpsError):
    """This table must wait for a person. Other tables of the source go on."""


class DriftHeldError(HoldError):
    """The source drifted in a way the contract does not allow to apply."""


class InventoryError(DataOpsError):
    """The row, a connection or a setting is wrong: retrying cannot help."""


class StopError(DataOpsError):
    """Stop: going on could lose or double rows."""


class ProofError(StopError):
    """The accounting equation, a file's footer or a fingerprint does not agree."""


class ForeignChangeError(StopError):
    """The catalog shows a location that is neither our decision nor one of our superseded directories."""


class LimitError(StopError):
    """A limit of the row was reached."""


class RangeError(StopError):
    """The asked range cannot be read (again): it overlaps a committed one, or the source has no history."""


def told(error: BaseException) -> tuple[str, str]:
    """(text, code) of an error as it may be shown and kept. What no edge has translated may quote anything: it is only named, and
    whoever caught it puts it whole into the log."""
    if isinstance(error, DataOpsError):
        return str(error), error.code
    return f"{type(error).__name__} that nobody expected; its traceback is in the log", "unexpected"
