"""What a run writes about itself: JSON lines, TensorBoard, sample grids, and lines or a bar on the terminal."""

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgan import sampling
from jaxgan.errors import RunError, UserError
from jaxgan.tensorboard import EventFile


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


class LineFile:
    """A file to which lines are appended whole.

    A line that cannot be written is taken back and kept, and goes before the next.

    Attributes:
      behind: how many lines are kept.
    """

    def __init__(self, path: pathlib.Path):
        self._file, self._kept, self.behind = path.open("ab", buffering=0), b"", 0

    def write(self, line: str) -> None:
        """Appends a line and those kept before it; raises `OSError` where that cannot be done now."""
        self._kept, self.behind = self._kept + line.encode() + b"\n", self.behind + 1
        before = self._file.seek(0, os.SEEK_END)
        rest = self._kept
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(before)  # half a line would spoil the next
            raise
        self._kept, self.behind = b"", 0

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Records:
    """Open files of a workdir.

    Lines past `step`, which a killed run wrote and the resumed run makes again, are dropped. A file
    that cannot be written any more is told once, and the run goes on: what it trains is worth more
    than its records.

    Raises:
      UserError, RunError: where they cannot be written at the start.
    """

    def __init__(
        self, workdir: pathlib.Path, step: int, steps: int, steps_per_epoch: int, tensorboard: bool
    ):
        self._workdir, self._steps, self._steps_per_epoch = workdir, steps, steps_per_epoch
        self._terminal, self._bar, self._start = sys.stderr.isatty(), None, step
        self.lost: set[str] = set()  # of `metrics.jsonl`, `samples` and `tensorboard`
        self._path, self._events = workdir / "metrics.jsonl", None
        with writable(self._path):
            (workdir / "samples").mkdir(exist_ok=True)
            self.dropped = drop_lines_after(self._path, step)
            self._lines = LineFile(self._path)
        if tensorboard:
            with self._told_once("tensorboard"):
                self._events = EventFile(workdir / "tensorboard", step + 1 if step else None)
        # Packing two PNGs takes as long as tens of steps on a GPU.
        self._writer, self._under_way = (
            concurrent.futures.ThreadPoolExecutor(1, "grids"),
            list[concurrent.futures.Future](),
        )

    @contextlib.contextmanager
    def _told_once(self, name: str, then: str = "without it") -> Iterator[None]:
        """Goes on where a file of the workdir cannot be written; the first time it says so."""
        try:
            yield
        except (OSError, RunError) as error:
            if name not in self.lost:
                self.lost.add(name)
                what = str(error)
                if isinstance(error, OSError):
                    what = f"{self._workdir / name} cannot be written: {error.strerror}"
                self.say(f"{what}; training goes on {then}")

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
        with self._told_once("metrics.jsonl", "and keeps its lines until they can be"):
            self._lines.write(json.dumps(record))
        if self._events is not None and "tensorboard" not in self.lost:
            with self._told_once("tensorboard"):
                values = {name: value for name, value in record.items() if name != "step"}
                self._events.scalars(record["step"], values)
        line = format_line(record, self._steps, self._steps_per_epoch)
        if self._bar is None:
            _print(line)
        else:
            self._bar.set_postfix_str(line.partition("] ")[2])

    def samples(self, step: int, images: np.ndarray) -> None:
        """Writes `samples/step_00001000.png`, a grid of uint8 [N,H,W,C], in the background."""
        self.wait()
        self._under_way.append(self._writer.submit(self._write_samples, step, images))

    def _write_samples(self, step: int, images: np.ndarray) -> None:
        with self._told_once("samples"):
            sampling.save(self._workdir / "samples" / f"step_{step:08d}.png", images)
        if self._events is not None and "tensorboard" not in self.lost:
            with self._told_once("tensorboard"):
                self._events.image(step, "samples", sampling.grid(images))

    def wait(self) -> None:
        """Returns when all grids are written."""
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
        if self._lines.behind:
            self.say(f"{self._lines.behind} lines of {self._path} could not be written")
        with contextlib.suppress(OSError):  # some mounts tell on closing what they could not write
            self._lines.close()
        with contextlib.suppress(OSError):
            if self._events is not None:
                self._events.close()


class Silence:
    """The `Records` of a process that does not write."""

    dropped, lost = 0, frozenset[str]()

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


def drop_lines_after(path: pathlib.Path, step: int) -> int:
    """Takes the records after `step`, and half a line of a killed run, out of a `metrics.jsonl`.

    Where the run begins anew (step 0) they are all there is of an earlier one, whose checkpoints are
    gone, and are kept in `metrics.jsonl.old`.

    Returns:
      How many records were dropped.
    """
    found = read_metrics(path)
    kept = [record for record in found if record["step"] <= step]
    if len(kept) < len(found) and step == 0:
        with path.with_suffix(".jsonl.old").open("ab") as old:
            old.write(path.read_bytes())
    whole = "".join(json.dumps(record) + "\n" for record in kept)
    if path.exists() and path.read_bytes() != whole.encode():
        _write_whole(path, whole)
    return len(found) - len(kept)


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a file whole or not at all.

    Raises:
      RunError: where it cannot be written.
    """
    with writable(path):
        _write_whole(path, json.dumps(content, indent=2) + "\n")


def _write_whole(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


@contextlib.contextmanager
def writable(path: pathlib.Path) -> Iterator[None]:
    """Turns an `OSError` of the block into a `RunError` that names what cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{error.filename or path} cannot be written: {error.strerror}; make room or choose "
            "another --workdir"
        ) from None
