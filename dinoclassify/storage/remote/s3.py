"""What of S3 is better asked of its API than of the file system that s3fs makes of it."""

import asyncio
import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dinoclassify.errors import UsageError
from dinoclassify.storage.remote.web import CONNECTIONS, TRIES, Reserve, check_size, waits

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PAGE = 1000  # objects in an answer, the most that S3 gives

_PART = 1 << 18  # bytes of an object, at a time


def options() -> dict[str, Any]:
    """Those of a file system of s3fs: botocore retries all that is worth it, but for a body that breaks off."""
    from fsspec.config import conf

    ours = {"max_pool_connections": CONNECTIONS, "retries": {"mode": "standard", "total_max_attempts": TRIES}}
    return {"config_kwargs": ours | conf.get("s3", {}).get("config_kwargs", {})}


def head(fs: "AbstractFileSystem", url: str) -> Mapping[str, Any] | None:
    """What S3 says of an object; None of a bucket.

    Raises:
        FileNotFoundError: there is no such object.
    """
    bucket, key = _names(fs, url)
    answer: Mapping[str, Any] | None = fs.call_s3("head_object", Bucket=bucket, Key=key) if key else None
    return answer


def check_bucket(fs: "AbstractFileSystem", url: str) -> None:
    """See that there is a bucket for an object.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: it is not for us, or we may not ask.
        UsageError: the URL names no object.
    """
    bucket, key = _names(fs, url)
    if not key:
        raise UsageError(f"{url} is no object: name one in a bucket, such as s3://{bucket or 'bucket'}/labels.parquet")
    try:
        fs.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no bucket {bucket}") from error


def listing(fs: "AbstractFileSystem", folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The URLs of all objects below a folder, and what S3 says of them; no more than a page of them is held."""
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
    """The bytes of an object and what S3 says of it: with one request, where s3fs makes two.

    Raises:
        OSError: with ``errno`` EFBIG, it is too large for ``reserve``, see `storage.remote.web`.
    """
    bucket, key = _names(fs, url)
    wanted = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
    pauses = waits()
    while True:
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, **wanted)
        async with answer["Body"] as body:
            reserve(answer["ContentLength"])
            try:
                with io.BytesIO() as content:  # of which there is no copy in the end, as there would be of all parts
                    async for part in body.iter_chunks(_PART):
                        content.write(part)
                    return content.getvalue(), answer
            except Exception:  # it breaks off
                pause = next(pauses, None)
                if pause is None:
                    raise
        await asyncio.sleep(pause)


def _names(fs: "AbstractFileSystem", url: str) -> tuple[str, str]:
    """Bucket and key. Of s3fs's own ways this one leaves the key as it is."""
    bucket, key = fs._find_bucket_key(url.partition("://")[2].lstrip("/"))
    return bucket, key
