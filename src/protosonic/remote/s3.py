"""S3, by s3fs; keys and endpoint come from the environment of AWS (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import s3fs
from botocore import exceptions

from protosonic.errors import ConfigError, DataError, TransientError
from protosonic.remote.protocol import BLOCK_BYTES, Protocol, RemoteStatus
from protosonic.remote.urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["S3"]

_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
)
_UNKNOWN_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_HINT = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; see docs/remote.md"


class S3(Protocol):
    """Reads ``s3://bucket/key``."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._fs: Any = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            # Trying again is done for all protocols in one place.
            config_kwargs={
                "connect_timeout": timeout_s,
                "read_timeout": timeout_s,
                "retries": {"total_max_attempts": 1},
            },
        )
        self._fs.retries = 1

    def status(self, url: str) -> RemoteStatus:
        """Ask for size, time and ETag."""
        with _failures(url):
            info = self._fs.info(url)
        if info["type"] != "file":
            raise DataError(
                "the file cannot be opened: is a directory", code="unreadable", file=without_secrets(url)
            )
        modified = info.get("LastModified")
        return RemoteStatus(
            info["size"], int(modified.timestamp()) * 10**9 if modified else 0, "", info.get("ETag") or ""
        )

    def read_at(self, url: str, offset: int, size: int) -> bytes:
        """Read a part by a range request."""
        with _failures(url):
            content: bytes = self._fs.cat_file(url, start=offset, end=offset + size)
        return content

    def chunks(self, url: str, offset: int) -> Iterator[bytes]:
        """Read from `offset` to the end."""
        size = self.status(url).size
        while offset < size:
            block = self.read_at(url, offset, min(BLOCK_BYTES, size - offset))
            if not block:
                return
            yield block
            offset += len(block)

    def find(self, pattern: str) -> list[str]:
        """List matching files."""
        with _failures(pattern):
            if pattern.endswith("/"):
                found = self._fs.ls(pattern, detail=True)
            else:
                found = list(self._fs.glob(pattern, detail=True).values())
        return sorted(f"s3://{item['name']}" for item in found if item["type"] == "file")


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """Sort what s3fs raises by whether another try can help."""
    name = without_secrets(url)
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError("the file cannot be opened: no such file", code="unreadable", file=name) from error
    except PermissionError as error:
        text = without_secrets(f"{error} {error.__cause__}")
        if any(word in text for word in _UNKNOWN_KEYS):
            raise ConfigError(
                "the server does not accept our credentials", file=name, found=text, hint=_HINT
            ) from error
        raise DataError(
            "the file cannot be opened: permission denied", code="unreadable", file=name
        ) from error
    except _CREDENTIALS as error:
        raise ConfigError("there are no credentials for S3", file=name, found=error, hint=_HINT) from error
    except exceptions.ParamValidationError as error:
        raise ConfigError(
            "S3 does not accept this URL", file=name, found=without_secrets(str(error))
        ) from error
    except (OSError, exceptions.BotoCoreError, exceptions.ClientError, TimeoutError) as error:
        raise TransientError("the S3 server failed", file=name, found=without_secrets(str(error))) from error
