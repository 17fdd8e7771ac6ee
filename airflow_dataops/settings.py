"""The `[dataops]` settings, read without Airflow: flag > `AIRFLOW__DATAOPS__…` > `airflow.cfg` > default.

The same rules as Airflow's own (a test holds both equal), with the standard library only, because the `dataops` command
must start in a fraction of the time that importing Airflow takes. Two things need Airflow and go through it, only then:
`…_CMD` and `…_SECRET` (and `…_cmd`, `…_secret` in `airflow.cfg`) of a sensitive option.

`OPTIONS` is the one list of options: Airflow's config section and the reference page are made from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_dataops.core.errors import InventoryError

SECTION = "dataops"


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `default` may name `{AIRFLOW_HOME}`. `kind` is Airflow's word for the type of the value. A sensitive
    option may also come from a command or a secrets backend, and Airflow hides it."""

    name: str
    default: str
    description: str
    kind: str = "string"
    example: str | None = None
    sensitive: bool = False


OPTIONS = (
    Option("inventory", "{AIRFLOW_HOME}/inventory", "Folder of the inventory: one YAML file per domain."),
    Option(
        "lake",
        "file://{AIRFLOW_HOME}/dataops/lake",
        "Address of the lake called `default`, unless `platform.yaml` names one.",
        example="s3://company-lake/raw",
    ),
    Option("lake_conn_id", "", "Airflow connection with the credentials of that lake. Empty: none are needed."),
    Option("catalog", "embedded", "Kind of the catalog called `default`: `embedded` keeps it beside the ledger; `hive`; `glue`."),
    Option("catalog_conn_id", "", "Airflow connection of that catalog. `embedded` needs none."),
    Option(
        "ledger",
        "sqlite:///{AIRFLOW_HOME}/dataops/ledger.db",
        "SQLAlchemy URL of the ledger: SQLite on one machine, PostgreSQL in production. Never Airflow's own database.",
        example="postgresql://dataops@db.example.com/dataops",
        sensitive=True,
    ),
    Option(
        "transport",
        "direct",
        "How batches travel from acquisition to ingestion: `direct` is within one task.",
    ),
    Option(
        "dead_letters",
        "file://{AIRFLOW_HOME}/dataops/dead_letters",
        "Where the full records that could not go on are kept. Give few people access: nothing in them is masked.",
        example="s3://company-restricted/dead-letters",
    ),
    Option("dead_letters_conn_id", "", "Airflow connection with the credentials of that place."),
    Option(
        "lease_seconds",
        "300",
        "How long a claim is respected after its holder's last sign of life. Politeness only: attempts give safety.",
        kind="integer",
    ),
    Option(
        "dead_after_seconds",
        "86400",
        "After how long a silent writer counts as dead. Must be longer than any task or call can live.",
        kind="integer",
    ),
    Option(
        "grace_seconds",
        "86400",
        "How long a replaced directory stays for readers that still use it. Longer than the longest query.",
        kind="integer",
    ),
    Option(
        "held_alert_seconds",
        "86400",
        "After how long somebody is told, once, that held drift still waits for an answer.",
        kind="integer",
    ),
    Option(
        "airflow_url",
        "http://localhost:8080",
        "Address of Airflow's API server, for `dataops fleet`. Without a login: that is in the connection.",
        example="https://airflow.example.com",
    ),
    Option(
        "airflow_conn_id",
        "dataops_airflow",
        "Airflow connection with the login for it: login and password, or a token as the password without a login.",
    ),
    Option(
        "retire_most_rows",
        "100",
        "How many rows may be removed from the inventory in one edit; more are taken for an accident, and nothing changes.",
        kind="integer",
    ),
    Option(
        "retire_most_percent",
        "25",
        "What share of the rows may be removed in one edit, in percent (five rows always may). 100: no limit but the number.",
        kind="integer",
    ),
    Option(
        "drop_most_partitions",
        "1000",
        "How many partitions of one table may be dropped at once, by retention or repair; more are left to a person's word.",
        kind="integer",
    ),
    Option(
        "drop_most_percent",
        "10",
        "What share of a table's partitions a repair may drop because their files are gone, in percent (ten always may).",
        kind="integer",
    ),
    Option(
        "expire_most_percent",
        "50",
        "What share of a table's partitions `retention_days` may drop at once, in percent (ten always may).",
        kind="integer",
    ),
    Option(
        "maintenance_schedule",
        "*/5 * * * *",
        "When the DAG `dataops_maintenance` runs: a cron expression, a preset, or `none` for by hand only.",
        example="*/15 * * * *",
    ),
    Option(
        "compaction_bytes",
        "1073741824",
        "How many bytes of data files the maintenance writes again in one round, of all tables together.",
        kind="integer",
    ),
    Option(
        "old_types",
        "rewrite",
        "What becomes of data files that one of `readers` cannot read under the table's types: `rewrite`, or `list` (only named).",
    ),
    Option(
        "readers",
        "duckdb, hive, spark, trino",
        "The engines that must read every partition, by comma. Fewer engines, fewer files to be written again.",
        example="duckdb, trino",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of this process. `repr` hides the ledger's URL, because it may hold a password."""

    home: str
    inventory: str
    lake: str
    lake_conn_id: str | None
    catalog: str
    catalog_conn_id: str | None
    ledger: str = field(repr=False)
    transport: str
    dead_letters: str
    dead_letters_conn_id: str | None
    lease_seconds: int
    dead_after_seconds: int
    grace_seconds: int
    held_alert_seconds: int
    airflow_url: str
    airflow_conn_id: str
    retire_most_rows: int
    retire_most_percent: int
    drop_most_partitions: int
    drop_most_percent: int
    expire_most_percent: int
    maintenance_schedule: str
    compaction_bytes: int
    old_types: str
    readers: str

    @property
    def inventory_base(self) -> str:
        """The folder that holds the inventory folder: where relative paths of files begin."""
        return str(Path(self.inventory).absolute().parent)


def load_settings(overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings. `overrides` are flags (None: not given). InventoryError names an unknown flag and a value of the
    wrong type; an unreadable `airflow.cfg` is one too."""
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    unknown = sorted(given.keys() - {o.name for o in OPTIONS})
    if unknown:
        known = ", ".join(o.name for o in OPTIONS)
        raise InventoryError(f"Cannot use setting {unknown[0]!r}: unknown -> one of {known}. Correct its name.")
    home = _expand(environ.get("AIRFLOW_HOME", "~/airflow"), environ)
    config = _config_file(home, environ)
    values: dict[str, Any] = {}
    for option in OPTIONS:
        text = str(given[option.name]) if option.name in given else _look_up(option, config, environ)
        if text is None:
            text = _expand(option.default.replace("{AIRFLOW_HOME}", home), environ)
        values[option.name] = _typed(option, text)
    return Settings(home=home, **values)


def _look_up(option: Option, config: ConfigParser, environ: Mapping[str, str]) -> str | None:
    variable = f"AIRFLOW__{SECTION.upper()}__{option.name.upper()}"
    if variable in environ:
        return _expand(environ[variable], environ)
    elsewhere = (f"{variable}_CMD", f"{variable}_SECRET")
    if option.sensitive and any(name in environ for name in elsewhere):
        return _through_airflow(option)
    if config.has_option(SECTION, option.name):
        return _expand(config.get(SECTION, option.name), environ)
    if option.sensitive and any(config.has_option(SECTION, f"{option.name}_{how}") for how in ("cmd", "secret")):
        return _through_airflow(option)
    return None


def _through_airflow(option: Option) -> str:
    """The value of a command or a secrets backend: Airflow knows how to run them. Costs its import, a few seconds."""
    from airflow_dataops.hooks.stored import stored_setting

    return stored_setting(SECTION, option.name)


def _config_file(home: str, environ: Mapping[str, str]) -> ConfigParser:
    """`$AIRFLOW_CONFIG`, else `airflow.cfg` in the home. Empty when there is none: it is Airflow that writes it."""
    path = Path(_expand(environ.get("AIRFLOW_CONFIG", str(Path(home) / "airflow.cfg")), environ))
    parser = ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as written, like Airflow
    try:
        parser.read(path, encoding="utf-8")
        if parser.has_section(SECTION):
            parser.items(SECTION)  # a stray % shows now, with the file's name, not at some later use
    except (ConfigParserError, OSError, UnicodeDecodeError) as error:
        # Not the error's own text: it may quote a line with a password.
        raise InventoryError(
            f"Cannot read settings {path}: {type(error).__name__} -> a readable configuration file. Every setting may "
            "stand in it. Correct it; a percent sign in a value is written %%."
        ) from None
    return parser


def _typed(option: Option, text: str) -> Any:
    if option.kind == "integer":
        if not re.fullmatch(r"\s*[0-9]{1,12}\s*", text) or int(text) < 1:
            raise InventoryError(
                f"Cannot use setting [{SECTION}] {option.name}: {text!r} -> a whole number above 0. {option.description}"
            )
        return int(text)
    if not text and option.default:
        raise InventoryError(
            f"Cannot use setting [{SECTION}] {option.name}: empty -> a value, or not set at all. {option.description}"
        )
    return text or (None if not option.default else text)


_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)


def _expand(text: str, environ: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}` and `~` replaced until nothing changes, as Airflow does; unknown names stay as they are."""

    def value(match: re.Match[str]) -> str:
        return environ.get(match[1].strip("{}"), match[0])

    for _ in range(32):
        expanded = _VARIABLE.sub(value, text)
        if expanded == "~" or expanded.startswith("~/"):
            expanded = (environ.get("HOME") or os.path.expanduser("~")).rstrip("/") + expanded[1:]
        elif expanded.startswith("~"):
            expanded = os.path.expanduser(expanded)
        if expanded == text:
            return expanded
        text = expanded
    raise InventoryError(
        "Cannot expand a setting: an environment variable that contains itself -> a value. It would never end. "
        "Look for a variable that is named in its own value."
    )
