"""What is wrong with an inventory, said once, at the place where somebody can change it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dag_factory.inventory.secret_text import scrubbed, shown_path

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `row` is `<domain>.<name>`, "" when it is about a whole file; `field` is dotted (`read.mode`,
    `tables[2].write.keys`), "" when it is about the whole row. `message` says what is wrong, what is known, what to do.
    An error keeps its row out of the inventory, a warning does not. The text never holds a secret."""

    severity: Severity
    file: str
    line: int
    row: str
    field: str
    message: str

    def __post_init__(self) -> None:
        # The last safety net: whatever a rule or a foreign error quoted, a credential in it is not passed on.
        object.__setattr__(self, "field", shown_path(scrubbed(self.field)))
        object.__setattr__(self, "message", scrubbed(self.message))

    def __str__(self) -> str:
        subject = ".".join(part for part in (self.row, self.field) if part)
        message = self.message if self.severity == "error" else f"warning: {self.message}"
        return f"{self.file}:{self.line} {subject}: {message}" if subject else f"{self.file}:{self.line}: {message}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found in one row; the row's place makes it a `Problem`."""

    field: str
    message: str
    severity: Severity = "error"
