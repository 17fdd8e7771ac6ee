"""Dead letters of rows, without the values that privacy hides; and what a replay may do with values that are hidden already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from airflow_dataops.core.comparison import hiding
from airflow_dataops.core.dead_letter import DeadLetter
from airflow_dataops.core.privacy import MASK, Action, apply_privacy
from airflow_dataops.core.row_json import dump, json_values
from airflow_dataops.core.row_json_read import UnreadableError, array_of_json, record_of_json
from airflow_dataops.core.types_text import type_from_text, type_to_text


def hide_row(
    letter: DeadLetter, actions: Mapping[str, Action], types: Mapping[str, pa.DataType], key: bytes | None
) -> DeadLetter:
    """The row (`form` is `row`) with each hidden value as it would be stored; nothing of it where a value to be hashed is not of
    its type. `types` are those of the reading."""
    form = letter.form
    if form is None or not letter.can_replay:
        return letter.without_raw()
    record, kinds, unread = record_of_json(letter.raw), dict(form.types), set(form.unread)
    hidden = {name: actions.get(name, "mask") for name in record if actions.get(name, "mask") != "keep"}
    for name, action in hidden.items():
        value = record.pop(name)
        kind = kinds.pop(name, None)
        unread.discard(name)
        if action == "drop":
            continue
        if action == "mask":
            t = types.get(name, pa.null()) if kind is None else type_from_text(kind)
            record[name] = MASK if value is not None and pa.types.is_string(t) else None
            kinds[name] = kind or type_to_text(t)
            continue
        try:
            array = array_of_json([value], type_from_text(kind or "null"))
        except UnreadableError:
            return letter.without_raw()
        digest = apply_privacy(pa.RecordBatch.from_arrays([array], names=[name]), {name: action}, key).column(0)
        record[name], kinds[name] = json_values(digest)[0], type_to_text(digest.type)
    marks = {**form.hidden, **hiding([name for name in hidden if name in record], hidden, key)}
    return replace(letter, raw=dump(record), form=replace(form, types=kinds, unread=tuple(sorted(unread)), hidden=marks))


class HiddenOtherwiseError(ValueError):
    """A value is hidden in another way than the row asks for now, and cannot be brought there. Its text names the column."""


def hide_anew(
    record: pa.RecordBatch, hidden: Mapping[str, str], actions: Mapping[str, Action], key: bytes | None
) -> pa.RecordBatch:
    """A letter's row under the privacy rules of now. What is hidden already stays as it is if the rules ask for the same, is
    dropped or masked if they ask for that, and is refused (HiddenOtherwiseError) where the value itself would be needed."""
    wanted = hiding(record.schema.names, actions, key)
    rules: dict[str, Action] = {}
    for name in record.schema.names:
        action = actions.get(name, "keep")
        if name not in hidden:
            rules[name] = action
        elif wanted.get(name) == hidden[name]:
            rules[name] = "keep"
        elif action in ("drop", "mask"):
            rules[name] = action
        else:
            how = hidden[name].partition(":")[0]
            raise HiddenOtherwiseError(f"column {name!r} is kept as {how} only, and the row asks for {action}")
    return apply_privacy(record, rules, key)
