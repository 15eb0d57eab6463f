"""Direct calls of the S3 API where s3fs makes extra requests or holds whole listings."""

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dinoclassify.errors import UsageError
from dinoclassify.storage.budget import Reserve, check_size
from dinoclassify.storage.remote.retries import CONNECTIONS, TRIES, backoff

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PAGE = 1000  # objects in a response, the most that S3 returns

_PART = 1 << 18  # bytes of an object to read at a time


def options() -> dict[str, Any]:
    """The options of an s3fs file system: botocore retries all that may succeed later, except an interrupted body."""
    from fsspec.config import conf

    ours = {"max_pool_connections": CONNECTIONS, "retries": {"mode": "standard", "total_max_attempts": TRIES}}
    return {"config_kwargs": ours | conf.get("s3", {}).get("config_kwargs", {})}


def head(fs: "AbstractFileSystem", url: str) -> Mapping[str, Any] | None:
    """The metadata of an object; None for a bucket. Raises FileNotFoundError if there is no such object."""
    bucket, key = _names(fs, url)
    response: Mapping[str, Any] | None = fs.call_s3("head_object", Bucket=bucket, Key=key) if key else None
    return response


def check_bucket(fs: "AbstractFileSystem", url: str) -> None:
    """Check that the bucket of an object exists; raises FileNotFoundError, PermissionError or UsageError."""
    bucket, key = _names(fs, url)
    if not key:
        raise UsageError(f"{url} is no object: name one in a bucket, such as s3://{bucket or 'bucket'}/labels.parquet")
    try:
        fs.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no bucket {bucket}") from error


def listing(fs: "AbstractFileSystem", folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The URLs and metadata of all objects below a folder; only one page of them is in memory."""
    bucket, prefix = _names(fs, folder)
    before = folder.removesuffix(prefix)
    more: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **more)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # the marker of a folder
                yield before + entry["Key"], entry
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


async def get(
    fs: "AbstractFileSystem", url: str, start: int | None = None, end: int | None = None, reserve: Reserve = check_size
) -> tuple[bytes, Mapping[str, Any]]:
    """The bytes of an object, or of a range, and its metadata: one request, where s3fs makes two.

    Raises OSError with EFBIG if the object is too large for ``reserve``, see `storage.budget.Reserve`.
    """
    import asyncio  # slow to import: a run on local files never comes here

    bucket, key = _names(fs, url)
    byte_range = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
    pauses = backoff()
    while True:
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key, **byte_range)
        async with response["Body"] as body:
            reserve(response["ContentLength"])
            try:
                with io.BytesIO() as content:  # joining the parts would need a copy
                    async for part in body.iter_chunks(_PART):
                        content.write(part)
                    return content.getvalue(), response
            except Exception:  # the body was interrupted
                pause = next(pauses, None)
                if pause is None:
                    raise
        await asyncio.sleep(pause)


def _names(fs: "AbstractFileSystem", url: str) -> tuple[str, str]:
    """Bucket and key; this function of s3fs leaves the key unchanged."""
    bucket, key = fs._find_bucket_key(url.partition("://")[2].lstrip("/"))
    return bucket, key
