"""Whether a container runs, from its record and the live system."""

from __future__ import annotations

from plugrun import processes
from plugrun.container import ContainerRecord, Status


def is_running(record: ContainerRecord) -> bool:
    """Whether the container runs now; the stored status only says that nobody has seen it end."""
    return (
        record.status is Status.RUNNING
        and record.boot_id == processes.boot_id()
        and processes.alive(record.pid, record.pid_start)
    )
