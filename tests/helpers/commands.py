"""Commands that run in the process of a test, and the rows that they print."""

import csv
import io
from collections.abc import Callable

HEADER = "path,status,label,score,index,error_code,error,size,mtime_ns"
NAMES = ["broken.jpg", "camera.jpg", "chelsea.jpg", "coffee.jpg", "motorcycle_left.jpg", "rocket.jpg", "text.png"]
Invoke = Callable[..., tuple[int, str, str]]


def parse_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
