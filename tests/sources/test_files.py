"""Files as a source: the contract for every format, local and on S3."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_dataops.sources import open_source
from tests.sources.contract import ORDERS, Case, SourceContract
from tests.sources.files_cases import files_spec, write_avro, write_csv, write_ndjson
from tests.storage.test_store import connection_to


class TestParquet(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        (tmp_path / "drop").mkdir()
        pq.write_table(ORDERS, tmp_path / "drop/orders.parquet")
        return Case(open_source(files_spec("drop"), None, base_path=str(tmp_path)), "orders", False)


class TestAvro(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        (tmp_path / "drop/orders").mkdir(parents=True)
        write_avro(tmp_path / "drop/orders/1.avro", ORDERS.slice(0, 4))
        write_avro(tmp_path / "drop/orders/2.avro", ORDERS.slice(4))
        return Case(open_source(files_spec("drop"), None, base_path=str(tmp_path)), "orders", False)


class TestCsv(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        (tmp_path / "drop").mkdir()
        (tmp_path / "drop/orders.csv").write_bytes(write_csv(ORDERS))
        return Case(open_source(files_spec("drop"), None, base_path=str(tmp_path)), "orders", False)


class TestCsvGzipOnS3(SourceContract):
    @pytest.fixture
    def case(self, s3_server, s3_bucket: str) -> Case:
        for n, part in enumerate((ORDERS.slice(0, 7), ORDERS.slice(7))):
            s3_server.client().put_object(Bucket=s3_bucket, Key=f"drop/orders.{n}.csv.gz", Body=gzip.compress(write_csv(part)))
        spec = files_spec(f"s3://{s3_bucket}/drop", conn_id="drops")
        return Case(open_source(spec, connection_to(s3_server), base_path="/nowhere"), "orders", False)


class TestNdjson(SourceContract):
    """JSON has no timestamps: its column stays text, so the table is served with the texts that JSON would hold."""

    @pytest.fixture
    def case(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
        texts = ORDERS.set_column(2, "updated_at", ORDERS["updated_at"].cast(pa.string()))
        monkeypatch.setattr("tests.sources.contract.ORDERS", texts)
        (tmp_path / "drop").mkdir()
        (tmp_path / "drop/orders.json").write_bytes(write_ndjson(texts))
        return Case(open_source(files_spec("drop"), None, base_path=str(tmp_path)), "orders", False)
