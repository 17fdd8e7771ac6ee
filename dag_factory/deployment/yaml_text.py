"""Plain data as YAML that people like to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def yaml_text(data: Mapping[str, Any]) -> str:
    """Keys in their order, lists below their key, texts of several lines as blocks."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, width=10_000, default_flow_style=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Lists below their key are indented, texts of several lines are blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
