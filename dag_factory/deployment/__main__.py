"""What is made from the list of processes and the settings.

python -m dag_factory.deployment           write docker-compose.yaml, docs/helm-values.yaml, the tables of docs/deploy.md
python -m dag_factory.deployment --check   1 when a file is not what would be written
python -m dag_factory.deployment secrets   print fresh secrets, as docker-compose.yaml takes them from .env
"""

from __future__ import annotations

import sys
from pathlib import Path

from dag_factory.deployment.compose import compose_text
from dag_factory.deployment.helm import helm_text
from dag_factory.deployment.local import new_secrets
from dag_factory.deployment.processes import COMPONENTS, SERVERS
from dag_factory.deployment.settings import SETTINGS


def tables() -> dict[str, str]:
    """Name of a table in docs/deploy.md → its text."""
    processes = ["| process | does |", "|---|---|"]
    processes += [f"| `airflow {' '.join(c.command)}` ({c.name}) | {c.does} |" for c in COMPONENTS]
    processes += [f"| {s.name}: `{s.image}` | {s.does} |" for s in SERVERS]
    settings = ["| setting | value | why |", "|---|---|---|"]
    settings += [f"| `[{s.section}] {s.option}` | `{s.value}` | {s.why} |" for s in SETTINGS]
    return {"processes": "\n".join(processes), "settings": "\n".join(settings)}


def with_tables(text: str) -> str:
    """docs/deploy.md with its tables replaced. ValueError when the marks of one are gone."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text[: text.index(begin) + len(begin)], text[text.index(end) :]
        text = f"{before}\n{table}\n{rest}"
    return text


def made(root: Path) -> dict[Path, str]:
    """Each file and the text it should have."""
    page = root / "docs" / "deploy.md"
    return {
        root / "docker-compose.yaml": compose_text(),
        root / "docs" / "helm-values.yaml": helm_text(),
        page: with_tables(page.read_text(encoding="utf-8")),
    }


def main(arguments: list[str]) -> int:
    """The command; returns its exit code."""
    if arguments == ["secrets"]:
        sys.stdout.writelines(f"{name}={value}\n" for name, value in new_secrets().items())
        return 0
    stale = 0
    for file, text in made(Path(__file__).resolve().parents[2]).items():
        if "--check" in arguments:
            stale += not file.exists() or file.read_text(encoding="utf-8") != text
        else:
            file.write_text(text, encoding="utf-8")
    return int(stale > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
