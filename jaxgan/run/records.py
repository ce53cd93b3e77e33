"""What a run writes about itself: JSON lines, TensorBoard, sample grids, and lines or a bar on the terminal."""

import concurrent.futures
import json
import math
import os
import pathlib
import shutil
import sys
from typing import Any

import numpy as np

from jaxgan import sampling
from jaxgan.errors import RunError, UserError


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, without a last line that a killed run cut short."""
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(
        path.read_bytes().split(b"\n")[:-1], 1
    ):  # what follows the last newline is not a whole line
        try:
            record = json.loads(line)
            record["step"] + 0
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{path} line {number} is not a record; mend that line or move the file away"
            ) from None
        records.append(record)
    return records


def format_line(record: dict[str, Any], steps: int, steps_per_epoch: int) -> str:
    """`[epoch/epochs][i/n] Loss_D: .. Loss_G: .. D(x): .. D(G(z)): .. images/s`."""
    epoch, place = divmod(record["step"] - 1, steps_per_epoch)
    return (
        f"[{epoch + 1}/{math.ceil(steps / steps_per_epoch)}][{place + 1}/{steps_per_epoch}] "
        f"Loss_D: {record['loss_discriminator']:.4f} Loss_G: {record['loss_generator']:.4f} "
        f"D(x): {record['score_real']:.3f} D(G(z)): {record['score_fake']:.3f} {record['images_per_second']:.0f} images/s"
    )


class Records:
    """Open files of a workdir. Lines past `step`, which a killed run wrote and the resumed run makes again, are dropped."""

    def __init__(
        self, workdir: pathlib.Path, step: int, steps: int, steps_per_epoch: int, tensorboard: bool
    ):
        self._workdir, self._steps, self._steps_per_epoch = workdir, steps, steps_per_epoch
        (workdir / "samples").mkdir(exist_ok=True)
        path = workdir / "metrics.jsonl"
        found = read_metrics(path)
        kept = [record for record in found if record["step"] <= step]
        self.dropped = len(found) - len(kept)
        if path.exists():
            temporary = path.with_suffix(".jsonl.tmp")
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
            os.replace(temporary, path)
        self._lines = path.open("a", buffering=1)
        self._tensorboard = None
        if tensorboard:
            try:
                import tensorboardX
            except ImportError as error:
                raise UserError(
                    f"log.tensorboard=true needs tensorboardX ({error}); install it or use --log.tensorboard false"
                ) from None
            self._tensorboard = tensorboardX.SummaryWriter(
                str(workdir / "tensorboard"), purge_step=step + 1 if step else None
            )
        self._terminal, self._bar, self._start = sys.stderr.isatty(), None, step
        # Packing two PNGs takes as long as tens of steps on a GPU.
        self._writer, self._under_way = (
            concurrent.futures.ThreadPoolExecutor(1, "grids"),
            list[concurrent.futures.Future](),
        )

    def advance(self, count: int) -> None:
        """`count` more steps are under way."""
        if self._terminal and self._bar is None:
            from tqdm import tqdm

            width = shutil.get_terminal_size(
                (100, 24)
            ).columns  # also where the terminal knows no size
            shape = "{percentage:3.0f}% |{bar:10}| {n_fmt}/{total_fmt} [{remaining} left]{postfix}"
            self._bar = tqdm(total=self._steps, initial=self._start, bar_format=shape, ncols=width)
        if self._bar is not None:
            self._bar.update(count)

    def metrics(self, record: dict[str, Any]) -> None:
        """Writes one record, of `step` and numbers."""
        self._lines.write(json.dumps(record) + "\n")
        if self._tensorboard is not None:
            for name, value in record.items():
                if name != "step":
                    self._tensorboard.add_scalar(name, value, record["step"])
        line = format_line(record, self._steps, self._steps_per_epoch)
        if self._bar is None:
            _print(line)
        else:
            self._bar.set_postfix_str(line.partition("] ")[2])

    def samples(self, step: int, images: np.ndarray) -> None:
        """Writes `samples/step_00001000.png`, a grid of uint8 [N,H,W,C], in the background; `wait` tells what went wrong."""
        self.wait()
        self._under_way.append(self._writer.submit(self._write_samples, step, images))

    def _write_samples(self, step: int, images: np.ndarray) -> None:
        sampling.save(self._workdir / "samples" / f"step_{step:08d}.png", images)
        if self._tensorboard is not None:
            self._tensorboard.add_image("samples", sampling.grid(images), step, dataformats="HWC")

    def wait(self) -> None:
        """Returns when all grids are written; raises `RunError` where one was not."""
        while self._under_way:
            self._under_way.pop().result()

    def say(self, text: str) -> None:
        """One line for the user, above the bar where there is one."""
        if self._bar is None:
            _print(text)
        else:
            self._bar.write(text, file=sys.stderr)

    def close_bar(self) -> None:
        """Leaves the bar as it stands; what is said next comes below it."""
        if self._bar is not None:
            self._bar.close()
        self._terminal, self._bar = False, None

    def close(self) -> None:
        """Closes the files and the bar."""
        self.close_bar()
        self._writer.shutdown()
        self._lines.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


class Silence:
    """The `Records` of a process that does not write."""

    dropped = 0

    def advance(self, count: int) -> None: ...
    def metrics(self, record: dict[str, Any]) -> None: ...
    def samples(self, step: int, images: np.ndarray) -> None: ...
    def wait(self) -> None: ...
    def say(self, text: str) -> None: ...
    def close_bar(self) -> None: ...
    def close(self) -> None: ...


def _print(line: str) -> None:
    """Prints a line; where nobody reads any more, or nothing more can be written, training goes on in silence."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a file whole or not at all.

    Raises:
      RunError: where it cannot be written.
    """
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror}; make room or choose another --workdir"
        ) from None
