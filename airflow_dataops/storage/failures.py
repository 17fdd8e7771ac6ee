"""Foreign failures of stores, translated once: try again, or fix the inventory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_dataops.core.errors import DataOpsError, InventoryError, UnavailableError

_DENIED = (
    "AccessDenied", "AllAccessDisabled", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "403",
)  # fmt: skip
_ABSENT = ("NoSuchBucket", "NoSuchKey", "404", "NotFound")


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Translates what a file system, pyarrow or boto3 raises inside. `doing` reads `verb object name`; messages of SDKs
    are repeated (they hold no secrets: keys are signed with, never sent)."""
    try:
        yield
    except DataOpsError:
        raise
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InventoryError(f"Cannot {doing}: {_text(error)} -> it is there. Check the path.") from error
    except PermissionError as error:
        raise InventoryError(f"Cannot {doing}: no right to -> a right to. Check owner and mode of the file.") from error
    except OSError as error:
        raise _translated(doing, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("botocore", "boto3", "urllib3"):
            raise
        raise _translated(doing, error) from error


def _translated(doing: str, error: Exception) -> DataOpsError:
    text = _text(error)
    code = error_code(error)
    if code in _DENIED or "ACCESS_DENIED" in text or "INVALID_ACCESS_KEY" in text or "SIGNATURE_DOES_NOT" in text:
        return InventoryError(
            f"Cannot {doing}: the store says no ({text}) -> a right to. Check the keys and rights of the connection."
        )
    if code in _ABSENT or "NO_SUCH_BUCKET" in text or "does not exist" in text:
        return InventoryError(f"Cannot {doing}: {text} -> it exists. Check bucket and path.")
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoRegionError"):
        return InventoryError(f"Cannot {doing}: {text} -> complete credentials. Name a connection that has them.")
    return UnavailableError(f"Cannot {doing}: {text} -> an answer. The store may be down or full. Try again.")


def error_code(error: Exception) -> str:
    """The code of a boto3 ClientError, `""` of anything else."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return ""


def _text(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")[:500]
