"""How long data take to open and to load: the originals, prepared for the first time, and prepared.

Each time is that of a process of its own that opens the data and makes a feed of them, from the end
of Python's imports on; only that of TensorFlow Datasets counts, as prepared data do without it. The
three ways take turns. `first step` is the time of whole processes of `jaxgan train --steps 1`, with
a warm cache of compiled programs.

Measured are the data of a preset (`--data.name mnist --data.manual-dir DIR`), or, with --images N,
a folder of as many small pictures, half of them PNGs and half JPEGs, that are made for it. Pages of
files are in memory, as a second start finds them. Options of jaxgan train change what is opened.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import record
from jaxgan.config import Config
from jaxgan.options import to_dict

WAYS = ("originals", "cold", "warm")
_OPEN = """
import json, sys, time
import numpy
from jaxgan.data import DataOptions, make_feed, open_source
from jaxgan.options import replace
options = replace(DataOptions(), json.loads(sys.argv[1]))
began = time.perf_counter()
source = open_source(options)
opened = time.perf_counter()
feed = make_feed(source, 1, 0, resident_limit_mb=options.resident_limit_mb)
feed.item(0)
print(json.dumps([opened - began, time.perf_counter() - opened, source.count]))
"""


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.opening", __doc__)
    parser.add_argument("preset", nargs="?", default="digits", help=record.presets_help("digits"))
    parser.add_argument("--images", type=int, default=0, help="open a folder of as many pictures")
    parser.add_argument("--rounds", type=int, default=5, help="of each way (default: 5)")
    parser.add_argument("--first-step", action="store_true", help="time jaxgan train, too")
    given, changes = record.parsed(parser, argv)
    if given.quick:
        given.rounds, given.images = 1, 50
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        if given.images:
            changes["data.folder"] = str(_pictures(root / "pictures", given.images))
        config = record.config_of(parser, given.preset, changes)
        about = record.machine(given.quick)
        record.show_machine(about)
        times = _opened(config, root, given.rounds)
        for way in WAYS:
            print(f"{way}: opened and loaded in {record.shown(times[way], 3)} s")
        result: dict[str, Any] = {"seconds": times}
        if given.first_step:
            result["first_step"] = _first_steps(config, given.preset, root, given.rounds)
            for way, seconds in result["first_step"].items():
                print(f"{way}: first step after {record.shown(seconds, 2)} s")
        subject = record.subject("opening", given.preset, config, config.run.dtype or "float32")
        record.append(given.json, {**about, **subject, "images": given.images, **result})


def _opened(config: Config, root: pathlib.Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, after one in which TFDS downloads or prepares what it must."""
    options = to_dict(config.run.data)
    _seconds({**options, "cache": None})
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds):
        cache = str(root / f"cache_{number}")
        for way in WAYS:
            times[way].append(_seconds({**options, "cache": None if way == WAYS[0] else cache}))
    return times


def _seconds(options: dict[str, Any]) -> float:
    words = [sys.executable, "-c", _OPEN, json.dumps(options)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    opened, loaded, _ = json.loads(done.stdout)
    return opened + loaded


def _first_steps(
    config: Config, preset: str, root: pathlib.Path, rounds: int
) -> dict[str, list[float]]:
    """Seconds of whole runs of one step, with and without prepared data."""
    caches = {"originals": "none", "warm": str(root / "cache")}
    times: dict[str, list[float]] = {way: [] for way in caches}
    options = {f"data.{name}": value for name, value in to_dict(config.run.data).items()}
    for number in range(rounds + 1):
        for way, cache in caches.items():
            changed = {**options, "data.cache": cache, "steps": 1}
            words = [f"--{name.replace('_', '-')}={_word(v)}" for name, v in changed.items()]
            workdir = str(root / f"run_{way}_{number}")
            command = [sys.executable, "-m", "jaxgan", "train", preset, "--workdir", workdir]
            began = time.perf_counter()
            subprocess.run([*command, *words], check=True, capture_output=True, env=os.environ)
            if number:  # in the first all is compiled and prepared
                times[way].append(time.perf_counter() - began)
    return times


def _word(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _pictures(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Noise of 40 x 32 pixels, drawn large so that it packs as photographs do."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class_{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
        kind = ("png", "jpg")[number % 2]
        coarse.resize((40, 32), Image.Resampling.BICUBIC).save(place / f"{number}.{kind}")
    return folder


if __name__ == "__main__":
    main()
