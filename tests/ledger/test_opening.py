"""Opening a ledger: URLs, failures that say what to do and never a password, and its cost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.tables import MIGRATIONS
from tests.ledger.actors import asking

SECRET = "s3cr3t%2Fword"


@pytest.mark.parametrize(
    ("url", "error", "found"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/db?sslmode=disable", UnavailableError, "postgresql://127.0.0.1:1/db"),
        (f"postgres://me:{SECRET}@127.0.0.1:1/db?password={SECRET}", UnavailableError, "-> an answer"),
        (f"mysql://me:{SECRET}@127.0.0.1/db", InventoryError, "a mysql URL -> sqlite or postgresql"),
        (f"me:{SECRET}@host", InventoryError, "its URL cannot be read"),
        (f"oracle+cx://me:{SECRET}@host/db", InventoryError, "-> sqlite or postgresql"),
        (f"postgresql+nodriver://me:{SECRET}@host/db", InventoryError, "nodriver is not installed"),
        (f"postgresql://me:{SECRET}@host:port/db", InventoryError, "its URL cannot be read"),
        (f"postgresql://me:{SECRET}@[::1/db", InventoryError, "its URL cannot be read"),
        (f"sqlite://me:{SECRET}@host/ledger.db", InventoryError, "its URL cannot be read"),
        ("sqlite:////tmp/a%00b/ledger.db", InventoryError, "its URL cannot be read"),
        ("sqlite:///~no-such-user/ledger.db", InventoryError, "its URL cannot be read"),
        ("sqlite:////tmp/ledger.db?timeout=soon", InventoryError, "its URL cannot be read"),
        ("sqlite:////dev/null/ledger.db", InventoryError, "-> a file in a folder that is there or can be made"),
        ("sqlite:////proc/no-such-process/ledger.db", InventoryError, "No such file or directory ->"),
        ("sqlite:////tmp", InventoryError, "a folder -> a file"),
    ],
)
def test_what_cannot_be_opened_says_why_and_never_the_password(url: str, error: type[Exception], found: str) -> None:
    with pytest.raises(error) as raised:
        open_ledger(url)
    assert found in str(raised.value)
    assert "s3cr3t" not in "".join(traceback.format_exception(raised.value, limit=0))


def test_a_refused_login_tells_no_password(postgres_url: str) -> None:
    with pytest.raises(UnavailableError) as raised:
        open_ledger(postgres_url.replace("://dataops:", "://dataops:wr0ng"))
    assert "wr0ng" not in "".join(traceback.format_exception(raised.value, limit=0))


def test_a_bare_postgresql_url_and_its_repr(empty_postgres: str) -> None:
    ledger = open_ledger(empty_postgres)
    password = empty_postgres.split("@")[0].rsplit(":", 1)[1]
    assert empty_postgres.rsplit("/", 1)[1] in repr(ledger) and password not in repr(ledger)
    ledger.close()


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("dear diary\n" * 200)
    with pytest.raises(InventoryError, match="file is not a database"):
        open_ledger(f"sqlite:///{file}")
    assert file.read_text().startswith("dear diary")


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    open_ledger(f"sqlite:///{tmp_path}/a/b/ledger.db").close()
    assert (tmp_path / "a/b/ledger.db").exists()


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    open_ledger(url).close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE dataops_ledger_version SET version_num = '9999'")
    with pytest.raises(InventoryError, match=f"its schema is 9999 -> {MIGRATIONS.head} or older"):
        open_ledger(url)


def test_two_ledgers_in_memory_are_two(tmp_path: Path) -> None:
    one, other = open_ledger("sqlite://"), open_ledger("sqlite://")
    one.batches.claim(asking())
    assert (len(one.batches.history()), len(other.batches.history())) == (1, 0)


def test_the_file_is_in_wal_mode_and_every_commit_is_durable(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    with ledger.batches._database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    ledger.close()


def test_opening_a_current_ledger_does_not_load_alembic(tmp_path: Path) -> None:
    """`dataops run` of a small table has two seconds in all."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    open_ledger(url).close()
    code = (
        f"import sys; from airflow_dataops.ledger import open_ledger; open_ledger({url!r}).close(); print('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_importing_the_room_loads_no_client_library() -> None:
    code = "import sys, airflow_dataops.ledger, airflow_dataops.catalog; print('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
