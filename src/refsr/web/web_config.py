"""Settings of the server, among them the limits of a request."""

from dataclasses import dataclass
from typing import Final, Literal

from refsr.errors import UsageError
from refsr.restore.upscale import RestoreConfig

Format = Literal["PNG", "JPEG"]

SCALES: Final = (1.0, 2.0, 4.0, 8.0)
"""Enlargements that the page offers."""


@dataclass(frozen=True, kw_only=True)
class WebConfig(RestoreConfig):
    """Settings of the server, among them the limits of a request.

    Attributes:
        texture: Share of the crisp weights with which the page begins.
        max_file_mib: Maximum size of one uploaded file in MiB.
        max_request_mib: Maximum size of all files of one request in MiB.
        max_total_mib: Maximum size of what lies on the disk for all visitors in MiB, results included.
        max_megapixels: Maximum size of a result, and of a reference, in megapixels.
        max_references: Maximum count of references for one photo.
        max_waiting: Maximum count of jobs in the queue; further ones are refused.
        max_seconds: Maximum time of one job in seconds; one that would take longer on this machine is refused at once.
        keep_seconds: Time in seconds after which uploads and results are deleted.
    """

    texture: float = 0.65
    max_file_mib: float = 50.0
    max_request_mib: float = 200.0
    max_total_mib: float = 8192.0
    max_megapixels: float = 64.0
    max_references: int = 8
    max_waiting: int = 8
    max_seconds: float = 600.0
    keep_seconds: float = 900.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.startswith(("max_", "keep_")) and value <= 0:
                limit = name.removeprefix("max_").replace("_", " ")
                raise UsageError(f"the limit {limit} is {value}: give more than 0")
