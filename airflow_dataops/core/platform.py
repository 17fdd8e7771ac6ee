"""`inventory/platform.yaml` as typed data: the lakes, catalogs and pools that rows name."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from airflow_dataops.core.spec import Name, Spec


class LakeSpec(Spec):
    """One lake: its address, and the Airflow connection that opens it."""

    uri: str = Field(min_length=1, description="`file:`, `s3:`, `hdfs:` or `webhdfs:` URI of the lake's root.")
    conn_id: str | None = Field(None, description="Airflow connection with the credentials. Unset: none are needed.")


class CatalogSpec(Spec):
    """One catalog."""

    kind: Literal["embedded", "hive", "glue"] = Field(
        "embedded", description="`embedded`: beside the ledger; `hive`: a Hive Metastore; `glue`: the AWS Glue Data Catalog."
    )
    conn_id: str | None = Field(None, description="Airflow connection of the catalog. `embedded` needs none.")


class PoolSpec(Spec):
    """One Airflow pool: how many tasks may work on a system at once. `8` is short for `{slots: 8}`."""

    slots: int = Field(ge=1, le=100_000, description="Tasks at once.")
    description: str = Field("", description="Shown in Airflow.")

    @model_validator(mode="before")
    @classmethod
    def _of_number(cls, data: Any) -> Any:
        return {"slots": data} if isinstance(data, int) and not isinstance(data, bool) else data


class PlatformSpec(Spec):
    """What the rows stand on. The `default` lake and catalog come from the `[dataops]` settings when absent here."""

    version: Literal[1] = Field(1, description="Version of this file's form.")
    lakes: dict[Name, LakeSpec] = Field(default_factory=dict, description="Name to lake.")
    catalogs: dict[Name, CatalogSpec] = Field(default_factory=dict, description="Name to catalog.")
    pools: dict[Name, PoolSpec] = Field(default_factory=dict, description="Name to pool.")
    standards: dict[str, Any] = Field(
        default_factory=dict, description="Which standard columns rows get; a layer below `defaults.yaml`."
    )
