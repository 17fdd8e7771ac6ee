"""Our errors as Airflow's, at the one place where they meet: try again, or fail at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_dataops.core.errors import DataOpsError


def to_airflow(message: str, *, retryable: bool) -> AirflowException:
    """The exception to raise: one that uses up a retry, or one that fails the task for good."""
    return AirflowException(message) if retryable else AirflowFailException(message)


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Inside the block a product error becomes Airflow's. Others pass: Airflow retries what nobody foresaw."""
    try:
        yield
    except DataOpsError as error:
        raise to_airflow(str(error), retryable=error.retryable) from error
