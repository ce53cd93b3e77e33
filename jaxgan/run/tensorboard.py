"""TensorBoard's event files, written by the caller.

tensorboardX's `SummaryWriter` passes events through a queue of ten to a thread. Where the file
cannot be written the thread dies, the queue fills, and the next `put` waits for ever. Here an event
is a write of the caller's, who gets the `OSError`.
"""

import os
import pathlib
import socket
import struct
import threading
import time
from typing import Any

import numpy as np

from jaxgan import files
from jaxgan.errors import UserError


def check_available() -> None:
    """Raises `UserError` where tensorboardX, which knows the format, is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"log.tensorboard=true needs tensorboardX ({error}); install it or use "
            "--log.tensorboard false"
        ) from None


class EventFile:
    """An open file of events; any thread may write. Every method may raise `OSError`.

    Args:
      folder: where the file is made.
      purge_step: TensorBoard forgets what older files of the folder tell of this step and later
        ones; None to forget nothing.
    """

    def __init__(self, folder: pathlib.Path, purge_step: int | None = None):
        from tensorboardX.proto import event_pb2

        self._format: Any = event_pb2  # generated: its names are unknown to type checkers
        self._lock = threading.Lock()
        files.make_folder(folder)
        seconds, rest = divmod(time.time_ns(), 10**9)  # a file for each part of a resumed run
        name = f"events.out.tfevents.{seconds}.{socket.gethostname()}.{rest:09d}"
        # Without a buffer there is nothing that could fail later, on closing.
        descriptor = files.opened(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        try:
            self._write(file_version="brain.Event:2")
            if purge_step is not None:
                start = self._format.SessionLog(status=self._format.SessionLog.START)
                self._write(step=purge_step, session_log=start)
        except OSError:
            self._file.close()
            raise

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve."""
        from tensorboardX import summary

        for name, value in values.items():
            self._write(step=step, summary=summary.scalar(name, value))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """uint8 [H,W,C]."""
        from tensorboardX import summary

        self._write(step=step, summary=summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        event = self._format.Event(wall_time=time.time(), **fields)
        record = _framed(event.SerializeToString())
        with self._lock:
            while record:
                record = record[self._file.write(record) :]


def _framed(data: bytes) -> bytes:
    """A TFRecord: the length, the data, and a masked CRC-32C of each."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]
