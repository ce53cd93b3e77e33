"""Finds and prepares a data set of TFDS, with no TensorFlow in this process and no long wait."""

import contextlib
import importlib.util
import io
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jaxgan import caches, terminal
from jaxgan.data.options import DataOptions
from jaxgan.data.originals import check_manual_files, check_network
from jaxgan.data.rows import one_line
from jaxgan.errors import UserError
from jaxgan.files import NO_ROOM, locked
from jaxgan.names import unknown
from jaxgan.paths import shown, user_path

FORMAT = "array_record"  # the one format that reads at random without TensorFlow
DRAWN = ("shapes", "ring", "grid", "mixture-1d", "stacked-mnist")  # names that TFDS has not


def data_dir(options: DataOptions) -> pathlib.Path:
    """Where prepared data sets live: `data.dir`, or ~/.cache/jaxgan/datasets.

    Raises:
      UserError: where neither is given and there is no home folder.
    """
    if options.dir:
        return user_path(options.dir, "data.dir")
    cache = caches.own()
    if not cache:
        raise UserError(
            "there is no home folder for prepared data sets; pass --data.dir, or set HOME"
        )
    return pathlib.Path(cache, "datasets")


def open_builder(options: DataOptions) -> Any:
    """The builder of a prepared data set, which is prepared first where it is not.

    Raises:
      UserError: an unknown name, no network, missing or damaged files, data in another format, no
        TensorFlow where preparing needs it.
    """
    check_name(options.name)
    root, manual = data_dir(options), _manual_dir(options)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"data.dir={shown(root)} cannot be written: {error.strerror}; choose another --data.dir"
        ) from None
    builder, make = found_builder(options)
    if builder is not None:
        return builder
    name = set_name(options)
    with _only_one(root / f".{name}.lock"):
        builder = make()
        if not builder.is_prepared():
            _prepare(builder, make, name, options, manual, tf_free=name in _tf_free())
    return builder


def found_builder(options: DataOptions) -> tuple[Any, Callable[[], Any]]:
    """(the builder of a data set that is prepared, None where it is not; what makes a builder).
    Nothing is written.

    Raises:
      UserError: an unknown name, or data that cannot be opened.
    """
    # absl logs TFDS's progress as warnings on standard error.
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    check_name(options.name)
    root, name = data_dir(options), set_name(options)
    tf_free = _tf_free()
    if name in tf_free and name != options.name:
        raise UserError(
            f"data.name={options.name!r}: {name} comes in one version here; use --data.name {name}"
        )

    def make() -> Any:
        if name in tf_free:
            return tf_free[name](data_dir=root, file_format=FORMAT)
        return tfds.builder(options.name, data_dir=root, file_format=FORMAT)

    try:
        builder = make()
        return builder if builder.is_prepared() else None, make
    except tfds.core.DatasetNotFoundError:
        known = {*DRAWN, *tf_free, *tfds.list_builders(with_community_datasets=False)}
        hint = f" (for a folder: --data.folder {name})" if pathlib.Path(name).is_dir() else ""
        raise UserError("data.name: " + unknown("data set", options.name, known) + hint) from None
    except MemoryError:
        raise
    except Exception as error:  # TFDS and protobuf share no error type
        raise UserError(_why_not_opened(options, root, name, error)) from None


def set_name(options: DataOptions) -> str:
    """Without a version or a config."""
    return options.name.partition(":")[0].partition("/")[0]


def _tf_free() -> dict[str, Any]:
    from jaxgan.data.builders import TF_FREE

    return TF_FREE


def check_name(name: str) -> None:
    if not name.strip(":/ "):
        raise UserError(
            f"data.name={name!r} names no data set; use digits, shapes, mnist or another of "
            "TensorFlow Datasets"
        )
    if name.startswith(("/", ".", "~")) or name.endswith((".npz", ".npy")) or "\\" in name:
        option = "file" if name.endswith((".npz", ".npy")) else "folder"
        raise UserError(
            f"data.name={shown(name)} is a path; for files of your own use --data.{option}, and "
            "for where data sets of TFDS live --data.dir"
        )


def _manual_dir(options: DataOptions) -> str | None:
    if not options.manual_dir:
        return None
    folder = user_path(options.manual_dir, "data.manual_dir")
    if not folder.is_dir():
        raise UserError(
            f"data.manual_dir={shown(folder)} is not a folder; name the folder that holds the "
            "original files"
        )
    return str(folder)


def _why_not_opened(options: DataOptions, root: pathlib.Path, name: str, error: Exception) -> str:
    """What is wrong with a data set that TFDS does not open, and what to do about it."""
    what = f"data.name={options.name!r}"
    for folder, kind in _prepared_formats(root / name):
        if kind != FORMAT:
            return (
                f"{what} is prepared in {shown(folder)} as {kind}, which cannot be read at random; "
                f"convert it where TensorFlow is, by: tfds convert_format "
                f"--out_file_format {FORMAT}"
                f" --dataset_version_dir {shown(folder)} --out_dir OTHER/"
                f"{folder.relative_to(root)}, and pass --data.dir OTHER"
            )
    if isinstance(error, PermissionError):
        where = shown(error.filename or root / name)
        return f"{what} cannot be opened: {where} may not be read; give yourself the right to"
    text = f"{what} cannot be opened: {one_line(error)}"
    return f"{text}; correct the name, or {prepare_anew(options, root / name)}"


def prepare_anew(options: DataOptions, folder: pathlib.Path) -> str:
    """How to get a sound data set. Only a folder that is certainly ours is to be removed."""
    if options.dir is None and folder.parent == data_dir(options) and folder.is_dir():
        return f"remove {shown(folder)} to have it prepared anew"
    return "have it prepared anew in another --data.dir"


def _prepared_formats(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """(folder of a version, file format) of what is prepared of a data set."""
    for pattern in ("*/dataset_info.json", "*/*/dataset_info.json"):
        for path in sorted(folder.glob(pattern)):
            with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
                kind = json.loads(path.read_text()).get("fileFormat", FORMAT)
                yield path.parent, str(kind)


@contextlib.contextmanager
def _only_one(path: pathlib.Path) -> Iterator[None]:
    """Waits while another process prepares the same.

    Links are not followed, so that nobody else's file is opened. A file system without locks has
    none; TFDS prepares beside and renames, so that two processes then do the work twice, no worse.
    """
    with contextlib.ExitStack() as holding:
        try:
            holding.enter_context(locked(path, wait=True))
        except OSError as error:
            raise UserError(
                f"{shown(path)} cannot be opened as a lock: {error.strerror}; mend that, or choose "
                "another --data.dir"
            ) from None
        yield


def _prepare(
    builder: Any,
    make: Callable[[], Any],
    name: str,
    options: DataOptions,
    manual: str | None,
    tf_free: bool,
) -> None:
    import tensorflow_datasets as tfds

    root = data_dir(options)
    if not tf_free and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"data.name={name!r} is not prepared in {shown(root)}, and preparing it needs "
            f"TensorFlow once (reading does not); run: {sys.executable} -m pip install "
            "tensorflow-cpu"
        )
    if builder.url_infos and not (manual and check_manual_files(builder, name, manual)):
        check_network(builder, name, manual)
    if not tf_free:
        _prepare_with_tensorflow(name, options.name, root, manual)
        return
    # One for each data set: MNIST's and Fashion-MNIST's files have the same names. And one of our
    # own, as it is removed where a download is broken.
    downloads = root / "downloads" / f"jaxgan_{name}"
    download_config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False)
    try:
        # TFDS announces each step on standard output, and shows its bars on standard error.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(terminal.lasting_stderr()),
        ):
            builder.download_and_prepare(download_dir=downloads, download_config=download_config)
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: wrong checksums, broken downloads, damaged files
        if isinstance(error, OSError) and make().is_prepared():
            return  # by another process, where there are no locks
        full = [words for words in NO_ROOM if words in str(error)]
        if full or isinstance(error, OSError):
            reason = full[0] if full else one_line(error)
            fix = "make room, or choose another --data.dir" if full else "mend that and run again"
            raise UserError(
                f"data set {name} could not be prepared in {shown(root)}: {reason}; {fix}"
            ) from None
        shutil.rmtree(downloads, ignore_errors=True)
        raise UserError(
            f"data set {name} could not be prepared: {one_line(error)}; the downloads were "
            "removed, run again, or pass the original files' folder with --data.manual-dir"
        ) from None


def _prepare_with_tensorflow(
    name: str, full_name: str, root: pathlib.Path, manual: str | None
) -> None:
    """In a process of its own, so that TensorFlow never shares one with JAX."""
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        "name, root, manual = sys.argv[1:]\n"
        f"builder = tfds.builder(name, data_dir=root, file_format={FORMAT!r})\n"
        "config = tfds.download.DownloadConfig(manual_dir=manual or None, try_download_gcs=False)\n"
        "downloads = f'{root}/downloads/{name}'\n"
        "builder.download_and_prepare(download_dir=downloads, download_config=config)\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code, full_name, str(root), manual or ""],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"data set {name} could not be prepared with TensorFlow: {reason[:300]}; mend that and "
            "run again"
        )
