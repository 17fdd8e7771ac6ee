"""Rules about the outside systems: whether they answer, whether they are the right kind for so many rows, and who can listen."""

from __future__ import annotations

from collections.abc import Iterator

from dag_factory.doctor.facts import Facts, Place
from dag_factory.doctor.finding import Finding, Severity, about

ROWS_ON_SQLITE = 50
MOST_ON_SQLITE = 300
COMPONENTS_WITH_A_POOL = 4
"""Scheduler, DAG processor, triggerer, and one worker of the API server: each keeps connections of its own."""
SHARED = "On several machines each would have its own."


def answers(facts: Facts) -> Iterator[Finding]:
    """Every system that is set answers."""
    systems = {
        "database": (facts.database, "Airflow's database"), "broker": (facts.broker, "Celery's broker"),
        "ledger": (facts.ledger, "ledger"), "dead_letters": (facts.dead_letters, "dead letters"),
        **{f"lake.{name}": (place, f"lake {name!r}") for name, place in facts.lakes.items()},
        **{f"snapshots.{bundle.name}": (bundle.snapshots, f"snapshots of bundle {bundle.name}") for bundle in facts.ours},
    }  # fmt: skip
    for rule, (place, what) in systems.items():
        if place.state in ("down", "wrong"):
            severity: Severity = "down" if place.state == "down" else "error"
            yield Finding(
                rule.partition(".")[0], severity, what, f"{place.address or 'its address'}: {place.said}", "an answer",
                "Every component needs it.", "Check its address, its connection, and the network between.",
            )  # fmt: skip
    if facts.api.state in ("down", "wrong"):
        yield Finding(
            "api", "warning", "Airflow's API server", f"{facts.api.address}: {facts.api.said}", "an answer",
            "`dataops fleet` works through it; pools could not be looked at.",
            "Start it, or set AIRFLOW__DATAOPS__AIRFLOW_URL and the connection of [dataops] airflow_conn_id.",
        )  # fmt: skip


def database(facts: Facts) -> Iterator[Finding]:
    """Airflow's own database."""
    option = "database.sql_alchemy_conn"
    if facts.database.kind == "sqlite":
        if facts.distributed:
            yield about(option, "error", "SQLite", "PostgreSQL", "Other machines cannot reach a file.")
        elif facts.rows > ROWS_ON_SQLITE:
            severity: Severity = "error" if facts.rows > MOST_ON_SQLITE else "warning"
            yield about(option, severity, "SQLite", f"PostgreSQL for {facts.rows:,} rows",
                        "It has one writer at a time: the components wait for each other, and tasks time out.")  # fmt: skip
    elif facts.database.kind and facts.database.kind != "postgresql":
        yield about(option, "note", facts.database.kind, "PostgreSQL", "Only PostgreSQL and SQLite were tried with big fleets.")
    if facts.database.kind == "postgresql" and not facts.true("database.sql_alchemy_pool_enabled"):
        if facts.options.get("database.sql_alchemy_pool_enabled"):
            yield about("database.sql_alchemy_pool_enabled", "warning", "false", "true (false only behind a pooler)",
                        "Each query would open a connection.", value="True")  # fmt: skip
    elif facts.database.kind == "postgresql" and facts.max_connections is not None:
        size = facts.number("database.sql_alchemy_pool_size") or 0
        over = facts.number("database.sql_alchemy_max_overflow") or 0
        most = int((size + max(over, 0)) * (COMPONENTS_WITH_A_POOL - 1 + (facts.number("api.workers") or 1)))
        if most > 0.8 * facts.max_connections:
            yield about(
                "database.sql_alchemy_pool_size", "warning",
                f"up to {most} connections of one component each; the server allows {facts.max_connections}",
                "less than 80 % of what the server allows", "Workers, the ledger and people need some, too.",
                value=str(max(1, int(0.4 * facts.max_connections / COMPONENTS_WITH_A_POOL))),
            )


def ledger(facts: Facts) -> Iterator[Finding]:
    """The ledger, which decides what is published."""
    option = "dataops.ledger"
    if facts.ledger.kind == "sqlite":
        if facts.distributed:
            yield about(option, "error", "SQLite", "PostgreSQL", f"It decides what is published. {SHARED}")
        elif facts.rows > ROWS_ON_SQLITE:
            severity: Severity = "error" if facts.rows > MOST_ON_SQLITE else "warning"
            yield about(option, severity, "SQLite", f"PostgreSQL for {facts.rows:,} rows",
                        "It has one writer at a time: tasks would wait for each other.")  # fmt: skip
    if facts.ledger_is_airflows:
        yield about(option, "error", "Airflow's own database", "a database of its own",
                    "Tasks reach the ledger; nothing of a task may reach Airflow's database.")  # fmt: skip
    if facts.ledger_revision == "other":
        yield Finding("ledger.revision", "error", "ledger", "made by another version of airflow-dataops", "this version",
                      "Components of different versions would write it differently.",
                      "Install one version everywhere; the first command or task of a newer one migrates it.")  # fmt: skip
    elif facts.ledger_revision == "absent":
        yield Finding("ledger.revision", "note", "ledger", "no tables yet", "its tables", "The first command or task makes them.",
                      "`dataops status` does it now, and shows whether the login may.")  # fmt: skip


def files(facts: Facts) -> Iterator[Finding]:
    """Lake, dead letters, snapshots: where several machines need the same."""
    shared = "s3://..., or a mount that all workers share"
    for name, place in facts.lakes.items():
        if facts.distributed and place.is_file:
            yield Finding("dataops.lake", "warning", f"lake {name!r}", place.address, shared, SHARED,
                          "Name it in platform.yaml, or set AIRFLOW__DATAOPS__LAKE.")  # fmt: skip
        if place.address and facts.dead_letters.address.startswith(place.address.rstrip("/") + "/"):
            yield about("dataops.dead_letters", "warning", f"inside lake {name!r}", "a place of its own with few readers",
                        "Nothing in dead letters is masked; whoever reads the lake would read them.")  # fmt: skip
    if facts.distributed and facts.dead_letters.is_file:
        yield about("dataops.dead_letters", "warning", facts.dead_letters.address, shared, SHARED)
    for bundle in facts.ours:
        place, subject = bundle.snapshots, f"snapshots of bundle {bundle.name}"
        fix = 'Set "snapshots" (s3://..., or a shared folder) in the kwargs of the bundle.'
        if not place.kind and facts.distributed:
            yield Finding(
                "bundle.snapshots", "error", subject, "not set: below the bundle storage path of each machine",
                "a place that all components reach", "A worker could not rebuild the version of its run.", fix,
            )  # fmt: skip
        elif not place.kind and not facts.options.get("dag_processor.dag_bundle_storage_path"):
            yield Finding(
                "bundle.snapshots", "warning", subject, "not set: in the folder for temporary files", "a folder that stays",
                "A restart of the machine loses the versions that runs are pinned to.", fix,
            )  # fmt: skip
        elif place.is_file and facts.distributed:
            yield Finding(
                "bundle.snapshots", "note", subject, place.address, "a mount that all components share",
                f"Seen from here it is a folder. {SHARED}", "Make sure of it; or use s3://...",
            )  # fmt: skip


def tls(facts: Facts) -> Iterator[Finding]:
    """Who can listen, or stand in for a server."""
    for name in facts.unverified:
        yield Finding("tls.verify", "error", name, "certificates are not verified", "verified",
                      "Anybody between could read and change everything.",
                      "Switch verification on; name the CA file where the authority is your own.")  # fmt: skip
    plain = {
        "Airflow's database": facts.database, "Celery's broker": facts.broker, "ledger": facts.ledger,
        "dead letters": facts.dead_letters, "Airflow's API server": facts.api,
        **{f"lake {name!r}": place for name, place in facts.lakes.items()},
        **{f"snapshots of bundle {bundle.name}": bundle.snapshots for bundle in facts.ours},
    }  # fmt: skip
    for what, place in plain.items():
        if place.encrypted is False and not place.is_here:
            yield Finding("tls.off", "warning", what, f"{place.address} without TLS", "TLS",
                          "Logins and rows pass the network in the clear.", _how(place))  # fmt: skip
    if facts.broker.kind in ("redis", "rediss") and not facts.broker.password and not facts.broker.is_here:
        yield about("celery.broker_url", "error", "no password", "a password",
                    "Whoever reaches the broker can have any command run by the workers.")  # fmt: skip


def _how(place: Place) -> str:
    return {
        "postgresql": "Add sslmode=verify-full to its URL.", "redis": "Use rediss:// and [celery] ssl_active.",
    }.get(place.kind, "Use its https:// address.")  # fmt: skip


def secrets(facts: Facts) -> Iterator[Finding]:
    """Keys that every component must have, and have the same."""
    if "core.fernet_key" not in facts.given:
        yield about("core.fernet_key", "error" if facts.distributed else "warning", "", "a key, the same everywhere",
                    "Passwords of connections stand unencrypted in Airflow's database.")  # fmt: skip
    for option, why in (
        ("api_auth.jwt_secret", "each component makes one up, and the API server refuses what a task of another machine sends."),
        ("api.secret_key", "each process of the API server makes one up, and logins end when another one answers."),
    ):
        if option not in facts.given:
            yield about(option, "error" if facts.distributed else "warning", "", "a random text, the same everywhere",
                        f"Without it {why}")  # fmt: skip
    if facts.true("core.simple_auth_manager_all_admins"):
        yield about("core.simple_auth_manager_all_admins", "error", "true", "false", "Whoever reaches the page is its "
                    "administrator.", value="False")  # fmt: skip
    if facts.distributed and "SimpleAuthManager" in facts.options.get("core.auth_manager", ""):
        yield about("core.auth_manager", "warning", "SimpleAuthManager", "one with your company's logins (FAB, Keycloak, ...)",
                    "It is meant for development: passwords stand in a file.")  # fmt: skip
    if facts.options.get("api.expose_config", "").lower() == "true":
        yield about("api.expose_config", "warning", "true", "false", "The whole configuration can be read in the UI.",
                    value="False")  # fmt: skip
