"""Errors of files and batches. Each message says what to do next."""

from __future__ import annotations


class BatchError(Exception):
    """Base of every error of files and batches. `param` is the field at fault, if one is."""

    param: str | None = None


class BatchesOffError(BatchError):
    """The service has no directory for batches."""

    reason = "batches_off"

    def __init__(self) -> None:
        super().__init__(
            "Batches are off here. Send texts to /v1/embeddings, or ask those who run the service "
            "to set BATCH_DIRECTORY."
        )


class StoreClosedError(BatchError):
    """The directory is not open yet, or another process has it."""

    reason = "batches_starting"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("Batches are being opened. Try again in a few seconds.")


class NoSuchFileError(BatchError):
    """No file of this caller has the id."""

    reason = "file_not_found"

    def __init__(self, file_id: str, *, param: str | None = "file_id") -> None:
        super().__init__(
            f"You have no file {file_id[:64]!r}. GET /v1/files lists yours; files are deleted "
            "after some time."
        )
        self.param = param


class ContentLostError(BatchError):
    """A file on the disk is shorter than what was written to it."""

    reason = "output_damaged"

    def __init__(self) -> None:
        super().__init__(
            "Answers of this batch were lost on the disk of the service. Those that are left are "
            "in its files. Send the other requests in another batch."
        )


class NoSuchBatchError(BatchError):
    """No batch of this caller has the id."""

    reason = "batch_not_found"
    param = "batch_id"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"You have no batch {batch_id[:64]!r}. GET /v1/batches lists yours.")


class FileInUseError(BatchError):
    """A batch that is not finished reads the file."""

    reason = "file_in_use"
    param = "file_id"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"The batch {batch_id} reads this file. Cancel it or wait for its end.")


class BatchFinishedError(BatchError):
    """A batch that cannot be cancelled any more."""

    reason = "batch_finished"
    param = "batch_id"

    def __init__(self, batch_id: str, status: str) -> None:
        super().__init__(f"The batch {batch_id} is {status}: there is nothing to cancel.")


class FileTooLargeError(BatchError):
    """A file of more than `limit` bytes."""

    reason = "file_too_large"
    param = "file"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The file is larger than {limit} bytes. Split it into several.")
        self.limit = limit


class UserStorageFullError(BatchError):
    """The user's files would take more than BATCH_BYTES_PER_USER."""

    reason = "file_quota"
    param = "file"

    def __init__(self, held: int, needed: int, limit: int) -> None:
        super().__init__(
            f"Your files take {held} bytes of {limit}, and this needs {needed} more. Delete files "
            "(DELETE /v1/files/{file_id}), or split it."
        )


class StorageFullError(BatchError):
    """All files together would take more than BATCH_BYTES, or the disk is full."""

    reason = "storage_full"
    retry_after = 60

    def __init__(self) -> None:
        super().__init__(
            "There is no space for files at the moment. Delete files that you do not need, or try "
            "again later."
        )


class TooManyBatchesError(BatchError):
    """The user has `limit` batches that are not finished."""

    reason = "too_many_batches"
    retry_after = 60

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} of your batches are not finished. Wait for one, or cancel one.")


class LineFault(Exception):
    """A line of an input file that cannot be a request.

    Attributes:
        code: from a fixed set.
        param: the field of the line, if one is at fault.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class NotNow(Exception):
    """A request of a batch that cannot be answered yet.

    Attributes:
        seconds: until it is worth another try.
        spent: whether the day's tokens are used up, so that the other requests wait too.
    """

    def __init__(self, seconds: float, *, spent: bool = False) -> None:
        super().__init__(f"not now; again in {seconds:g} s")
        self.seconds = seconds
        self.spent = spent
