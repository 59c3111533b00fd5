"""What an upload may not exceed, and what is said when it does."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import Fault, UploadTooLarge, UploadUnreadable

FILE = "/file"
"""The JSON pointer of the multipart field that holds the table."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a table: rows, columns and, for the reading process, bytes of memory."""

    rows: int
    columns: int
    memory: int

    def check_columns(self, columns: int) -> None:
        """Raise UploadTooLarge where there are too many columns."""
        if columns > self.columns:
            raise UploadTooLarge(
                f"The table has {columns} columns and {self.columns} are allowed; leave out some columns."
            )

    def check_rows(self, rows: int) -> None:
        """Raise UploadTooLarge where there are too many rows."""
        if rows > self.rows:
            raise UploadTooLarge(
                f"The table has more than the {self.rows} rows that are allowed; send a sample of its rows."
            )


def unreadable(*messages: str) -> UploadUnreadable:
    """Make the error for a file that is no table, one fault a message."""
    return UploadUnreadable([Fault(FILE, message) for message in messages])
