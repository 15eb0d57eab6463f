"""A limit that users write as a number or as a percentage."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of rows, or a share of all rows; ``text`` is what the user wrote."""

    text: str
    count: int | None = None
    share: float | None = None

    def exceeded(self, rows: int, total: int) -> bool:
        """Whether ``rows`` of ``total`` are too many."""
        return rows > self.count if self.count is not None else rows > (self.share or 0) * total
