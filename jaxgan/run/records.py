"""What a run writes about itself: JSON lines, TensorBoard, samples, and lines or a bar on the
terminal."""

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgan import files, images, terminal
from jaxgan.config import LogOptions
from jaxgan.errors import RunError, UserError
from jaxgan.files import written_whole
from jaxgan.run import tensorboard

_MOST_BYTES = 2**32  # of a metrics.jsonl; a line has some 300
LOOKS, ALARMS = "measures.jsonl", "alarms.jsonl"  # what looks measured, and what rang
# Of a record, beside the game's metrics.
OWN_FIELDS = ("step", "epoch", "seconds", "examples_per_second")


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, without a last line that a killed run cut short."""
    try:
        content = files.read(path, _MOST_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; mend that, or move it away"
        ) from None
    *lines, last = content.split(b"\n")
    records = []
    for number, line in enumerate([*lines, last] if last else lines, 1):
        try:
            record = json.loads(line)
            if type(record["step"]) is not int:
                raise TypeError(record["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            if number > len(lines) and (line.startswith(b'{"') or not line.strip(b"\0")):
                break  # what a killed run, or a disk that lost its power, left of a line
            raise UserError(
                f"{path} line {number} is not a record; mend that line or move the file away"
            ) from None
        records.append(record)
    return records


def format_line(record: dict[str, Any], steps: int, steps_per_epoch: int) -> str:
    """`[epoch/epochs][i/n] loss_discriminator: 1.3818 ... 4104 examples/s`, with all that the game
    logs."""
    epoch, place = divmod(record["step"] - 1, steps_per_epoch)
    epochs = math.ceil(steps / steps_per_epoch)
    values = {k: v for k, v in record.items() if k not in OWN_FIELDS}
    where = f"[{epoch + 1}/{epochs}][{place + 1}/{steps_per_epoch}]"
    metrics = (f"{name}: {value:.4g}" for name, value in values.items())
    return " ".join([where, *metrics, f"{record['examples_per_second']:.0f} examples/s"])


def check(workdir: pathlib.Path, log: LogOptions, profiled: bool) -> None:
    """Raises `UserError` where what is to be written cannot be, before anything is."""
    if log.tensorboard:
        tensorboard.check_available()
    profile = workdir / "profile"
    if profiled and os.path.lexists(profile) and (profile.is_symlink() or not profile.is_dir()):
        raise UserError(
            f"{profile} is no folder, where --profile writes; move it away or leave out --profile"
        )


def _scalars(record: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a record by the names that TensorBoard shows."""
    member = f"/member_{record['member']}" if "member" in record else ""
    return {f"{n}{member}": value for n, value in record.items() if n not in ("step", "member")}


class LineFile:
    """A file to which lines are appended whole.

    A line that cannot be written is taken back and kept, and goes before the next.

    Attributes:
      behind: how many lines are kept.
    """

    def __init__(self, path: pathlib.Path):
        descriptor = files.opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._file, self._kept, self.behind = os.fdopen(descriptor, "ab", buffering=0), b"", 0

    def write(self, line: str) -> None:
        """Appends a line and those kept before it; raises `OSError` where that cannot be done
        now."""
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
        self, workdir: pathlib.Path, step: int, steps: int, steps_per_epoch: int, events: bool
    ):
        self._workdir, self._steps, self._steps_per_epoch = workdir, steps, steps_per_epoch
        self._terminal, self._bar, self._start = terminal.is_shown(), None, step
        self.lost: set[str] = set()  # names in the workdir
        self._path, self._events = workdir / "metrics.jsonl", None
        with writable(self._path):
            files.make_folder(workdir / "samples")
            self.dropped = drop_lines_after(self._path, step)
            if os.path.lexists(workdir / LOOKS):
                drop_lines_after(workdir / LOOKS, step)
            self._lines = LineFile(self._path)
            self._more: dict[str, LineFile] = {}  # by name, which not every run has
        if events:
            with self._told_once("tensorboard"):
                self._events = tensorboard.EventFile(
                    workdir / "tensorboard", step + 1 if step else None
                )
        # Packing two PNGs takes as long as tens of steps on a GPU.
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "grids")
        self._under_way: list[concurrent.futures.Future] = []
        if self.dropped:
            self.say(
                f"{self.dropped} lines of metrics.jsonl after step {step} were dropped; those "
                "steps are trained again"
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
            # Also where the terminal knows no size.
            width = shutil.get_terminal_size((100, 24)).columns
            shape = "{percentage:3.0f}% |{bar:10}| {n_fmt}/{total_fmt} [{remaining} left]{postfix}"
            self._bar = terminal.bar(
                total=self._steps, initial=self._start, bar_format=shape, ncols=width
            )
        if self._bar is not None:
            self._bar.update(count)

    def metrics(self, record: dict[str, Any], of_members: Sequence[dict[str, Any]] = ()) -> None:
        """Shows one record, of `step` and numbers, and writes it.

        Args:
          record: the whole run's.
          of_members: what is written in its place where there are several, each with its `member`.
        """
        self.numbers(*(of_members or [record]))
        line = format_line(record, self._steps, self._steps_per_epoch)
        if self._bar is None:
            terminal.say(line)
        else:
            self._bar.set_postfix_str(line.partition("] ")[2])

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Adds a line to a file of the workdir, which is made where there is none."""
        with self._told_once(name):
            if name not in self._more:
                self._more[name] = LineFile(self._workdir / name)
            self._more[name].write(json.dumps(record))

    def look(self, record: dict[str, Any]) -> None:
        """Writes what a look measured, of `step` and numbers."""
        self.append(LOOKS, record)
        if self._events is not None and "tensorboard" not in self.lost:
            values = {f"alarms/{n}": value for n, value in record.items() if n != "step"}
            with self._told_once("tensorboard"):
                self._events.scalars(record["step"], values)

    def numbers(self, *several: dict[str, Any]) -> None:
        """Writes records, of `step` and numbers, and shows nothing."""
        for record in several:
            with self._told_once("metrics.jsonl", "and keeps its lines until they can be"):
                self._lines.write(json.dumps(record))
        if self._events is not None and "tensorboard" not in self.lost:
            with self._told_once("tensorboard"):
                for record in several:
                    self._events.scalars(record["step"], _scalars(record))

    def samples(self, step: int, examples: dict[str, np.ndarray], folder: str = "") -> None:
        """Writes `samples/step_00001000.png`, or `.npz` for what has no picture, in the
        background, or in a folder below `samples`."""
        self._under_way.append(self._writer.submit(self._write_samples, step, examples, folder))

    def _write_samples(self, step: int, examples: dict[str, np.ndarray], folder: str) -> None:
        page = images.picture(examples)
        name = f"step_{step:08d}.{'npz' if page is None else 'png'}"
        with self._told_once("samples"):
            place = self._workdir / "samples"
            files.make_folder(place)  # a link may have taken its place
            if folder:
                files.make_folder(place / folder)
            images.save(place / folder / name, examples)
        if page is not None and self._events is not None and "tensorboard" not in self.lost:
            with self._told_once("tensorboard"):
                self._events.image(step, f"samples/{folder}" if folder else "samples", page)

    def wait(self) -> None:
        """Returns when all grids are written."""
        while self._under_way:
            self._under_way.pop().result()

    def say(self, text: str) -> None:
        """One line for the user, above the bar where there is one."""
        if self._bar is None:
            terminal.say(text)
        else:
            terminal.above(self._bar, text)

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
        for more in self._more.values():
            with contextlib.suppress(OSError):
                more.close()
        with contextlib.suppress(OSError):
            if self._events is not None:
                self._events.close()


class Silence:
    """The `Records` of a process that does not write."""

    lost = frozenset[str]()

    def advance(self, count: int) -> None: ...
    def metrics(self, record: dict[str, Any], of_members: Any = ()) -> None: ...
    def append(self, name: str, record: dict[str, Any]) -> None: ...
    def look(self, record: dict[str, Any]) -> None: ...
    def numbers(self, *several: dict[str, Any]) -> None: ...
    def samples(self, step: int, examples: dict[str, np.ndarray], folder: str = "") -> None: ...
    def wait(self) -> None: ...
    def say(self, text: str) -> None: ...
    def close_bar(self) -> None: ...
    def close(self) -> None: ...


SILENCE = Silence()


def as_lines(records: list[dict[str, Any]]) -> bytes:
    """Records as they stand in a file."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def drop_lines_after(path: pathlib.Path, step: int) -> int:
    """Takes the records after `step`, and half a line of a killed run, out of a `metrics.jsonl`.

    Where the run begins anew (step 0) they are all there is of an earlier one, whose checkpoints
    are gone, and are kept in `metrics.jsonl.old`.

    Returns:
      How many records were dropped.
    """
    found = read_metrics(path)
    kept = [record for record in found if record["step"] <= step]
    before = files.read(path, _MOST_BYTES) if found or os.path.lexists(path) else b""
    if len(kept) < len(found) and step == 0:
        old = files.opened(path.with_suffix(".jsonl.old"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(old, "ab") as file:
            file.write(before)
    whole = as_lines(kept)
    if before != whole:
        with written_whole(path) as file:
            file.write(whole)
    return len(found) - len(kept)


@contextlib.contextmanager
def writable(path: pathlib.Path) -> Iterator[None]:
    """Turns an `OSError` of the block into a `RunError` that names what cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{error.filename or path} cannot be written: {error.strerror}; {files.fix_of(error)}, "
            "or choose another --workdir"
        ) from None
