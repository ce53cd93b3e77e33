"""Finds, prepares and opens a TFDS data set, with no TensorFlow in this process and no long wait without a network."""

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import Any

from jaxgan.config import DataConfig, unknown
from jaxgan.errors import UserError

_CONNECT_SECONDS = 5
FORMAT = "array_record"  # the one format that reads at random without TensorFlow


def data_dir(data: DataConfig) -> pathlib.Path:
    """Where prepared data sets live: `data.dir`, or ~/.cache/jaxgan/datasets."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(data.dir or f"{cache}/jaxgan/datasets").expanduser()


def open_builder(data: DataConfig) -> Any:
    """The builder of a prepared data set, which is prepared first where it is not.

    Raises:
      UserError: an unknown name, no network, missing or damaged files, no TensorFlow where preparing needs it.
    """
    # absl logs TFDS's progress as warnings on standard error.
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    from jaxgan.data import shapes
    from jaxgan.data.builders import TF_FREE

    if not data.name.strip(":/ "):
        raise UserError(
            f"data.name={data.name!r} names no data set; use digits, shapes, mnist or another of TensorFlow Datasets"
        )
    root = data_dir(data)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"data.dir={root} cannot be written: {error.strerror}; choose another --data.dir"
        ) from None
    if data.manual_dir and not pathlib.Path(data.manual_dir).is_dir():
        raise UserError(
            f"data.manual_dir={data.manual_dir} is not a folder; name the folder that holds the original files"
        )
    name = data.name.partition(":")[0].partition("/")[0]
    if name in TF_FREE and name != data.name:
        raise UserError(
            f"data.name={data.name!r}: {name} comes in one version here; use --data.name {name}"
        )

    def make() -> Any:
        if name in TF_FREE:
            return TF_FREE[name](data_dir=root, file_format=FORMAT)
        return tfds.builder(data.name, data_dir=root, file_format=FORMAT)

    try:
        builder = make()
        if builder.is_prepared():
            return builder
    except tfds.core.DatasetNotFoundError:
        known = {shapes.NAME, *TF_FREE, *tfds.list_builders(with_community_datasets=False)}
        raise UserError("data.name: " + unknown("data set", data.name, known)) from None
    except Exception as error:  # TFDS and protobuf share no error type
        raise UserError(
            f"data.name={data.name!r} cannot be opened: {_one_line(error)}; correct the name, or remove {root / name} to prepare it anew"
        ) from None
    with (root / f".{name}.lock").open("w") as lock:  # another run may be preparing the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        builder = make()
        if not builder.is_prepared():
            _prepare(builder, name, data, tf_free=name in TF_FREE)
    return builder


def _prepare(builder: Any, name: str, data: DataConfig, tf_free: bool) -> None:
    import tensorflow_datasets as tfds

    if not tf_free and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"data.name={name!r} is not prepared in {data_dir(data)}, and preparing it needs TensorFlow once (reading does not); "
            f"run: {sys.executable} -m pip install tensorflow-cpu"
        )
    if builder.url_infos and not (
        data.manual_dir and _check_manual_files(builder, name, data.manual_dir)
    ):
        _check_network(builder, name, data.manual_dir)
    if not tf_free:
        _prepare_with_tensorflow(name, data)
        return
    # A download folder for each data set: MNIST's and Fashion-MNIST's files have the same names.
    downloads = data_dir(data) / "downloads" / name
    download_config = tfds.download.DownloadConfig(
        manual_dir=data.manual_dir, try_download_gcs=False
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where TFDS announces each step
            builder.download_and_prepare(download_dir=downloads, download_config=download_config)
    except OSError as error:
        raise UserError(
            f"data set {name} could not be prepared in {data_dir(data)}: {_one_line(error)}; mend that and run again"
        ) from None
    except (
        Exception
    ) as error:  # TFDS raises many kinds here: wrong checksums, broken downloads, damaged files
        shutil.rmtree(downloads, ignore_errors=True)
        raise UserError(
            f"data set {name} could not be prepared: {_one_line(error)}; the downloads were removed, run again, or pass the original "
            "files' folder with --data.manual-dir"
        ) from None


def _prepare_with_tensorflow(name: str, data: DataConfig) -> None:
    """In a process of its own, so that TensorFlow never shares one with JAX."""
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        "name, root, manual = sys.argv[1:]\n"
        f"builder = tfds.builder(name, data_dir=root, file_format={FORMAT!r})\n"
        "config = tfds.download.DownloadConfig(manual_dir=manual or None, try_download_gcs=False)\n"
        "builder.download_and_prepare(download_dir=f'{root}/downloads/{name}', download_config=config)\n"
    )
    root = str(data_dir(data))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code, data.name, root, data.manual_dir or ""],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"data set {name} could not be prepared with TensorFlow: {reason}; mend that and run again"
        )


def _check_manual_files(builder: Any, name: str, folder: str) -> bool:
    """Whether all original files are in `folder`; raises where one is there with other bytes than the official ones."""
    complete = True
    for info in builder.url_infos.values():
        path = pathlib.Path(folder) / (info.filename or "")
        if not path.is_file():
            complete = False
            continue
        size = path.stat().st_size
        if size != info.size:
            raise UserError(
                f"{path} has {size} bytes, {name}'s has {int(info.size)}; download it again"
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != info.checksum:
            raise UserError(
                f"{path} is not {name}'s file: sha256 {digest[:12]}.., not {info.checksum[:12]}..; download it again"
            )
    return complete


def _check_network(builder: Any, name: str, manual_dir: str | None) -> None:
    """TFDS tries for minutes before it gives up; this asks once, in a thread because looking a name up cannot be timed out."""
    url = next(iter(builder.url_infos))
    reached: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(
                    urllib.request.Request(url, method="HEAD"), timeout=_CONNECT_SECONDS
                ).close()
            except (
                urllib.error.HTTPError
            ) as answer:  # a server is there, but does not like to be asked this way
                answer.close()
            reached.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS + 2)
    if not reached:
        where = (
            f"data.manual_dir={manual_dir} lacks some of"
            if manual_dir
            else "no --data.manual-dir names"
        )
        raise UserError(
            f"data set {name} is not prepared, {url} cannot be reached, and {where} its files; put {_file_names(builder)} into a "
            f"folder and pass --data.manual-dir, or train on --data.name digits"
        )


def _file_names(builder: Any) -> str:
    return ", ".join(sorted(info.filename or url for url, info in builder.url_infos.items()))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
