"""Where data come from: how they are opened, and how they are known again without opening them."""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxgan.data import files, folder, shapes
from jaxgan.data.arrays import BYTES_HASHED
from jaxgan.data.names import split_names
from jaxgan.data.options import DataOptions, image_size
from jaxgan.data.source import Source, select
from jaxgan.data.texts import BYTES
from jaxgan.errors import UserError
from jaxgan.paths import shown, user_path

_BYTES_SEEN = 2**16  # at either end of a file, of data that are too large to be read for this


class Origin(NamedTuple):
    """Data that are worth being kept decoded.

    Attributes:
      name: that the source has.
      kind: tfds, folder, file or drawn.
      split: empty for what has none.
      asked: () -> a digest of all that was asked for and of which files the originals are, and
        when they were written; empty where these are not there, or cannot be listed.
      open: () -> the source that reads the originals.
      content: source -> what the originals hold; with the features, all pixels follow from it.
      is_ready: source -> whether nothing is to be decoded, resized or drawn.
      reopened: source -> what opens it in another process, and is pickled; None for nothing.
    """

    name: str
    kind: str
    split: str
    asked: Callable[[], str]
    open: Callable[[], Source]
    content: Callable[[Source], str]
    is_ready: Callable[[Source], bool]
    reopened: Callable[[Source], Any]


def origin_of(options: DataOptions, progress: bool = False) -> Origin:
    """The origin that the options name; nothing is opened yet.

    Args:
      options: `folder` and `file` come before `name`; points of mixtures have none.
      progress: show bars while downloading and looking at files.
    """
    if options.folder is not None:
        return _folder(options, progress)
    if options.file is not None:
        return _file(options)
    if options.name == shapes.NAME:
        return _shapes(options)
    return _tfds(options, progress)


def _nothing(source: Source) -> None:
    return None


def _version(source: Source) -> str:
    return source.version


def _never(source: Source) -> bool:
    return False


def _given(source: Source) -> Source:
    return source


def _with_itself(source: Source) -> Any:
    return functools.partial(_given, source)


def _digest(options: DataOptions, kind: str, originals: Any) -> str:
    """Of all that decides what is read, wherever it lies."""
    asked = [kind, split_names(options.features), image_size(options), options.channels]
    return _hash([*asked, options.text_bytes, options.skip_damaged, originals])


def _hash(known: Any) -> str:
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest()


def _listing(root: str, paths: Iterable[str]) -> str:
    """A digest of the names of files below a folder, in this order, and of which files they are."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        known = _known(os.stat(f"{root}/{path}"))
        digest.update(os.fsencode(path) + f"\0{known};".encode())
    return digest.hexdigest()


def _known(status: os.stat_result) -> list[int]:
    """What changes with a file's bytes. Copies and archives give one file the size and time of
    another; which it is, and when that was last set, nobody gives it."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _folder(options: DataOptions, progress: bool) -> Origin:
    path = user_path(options.folder, "data.folder")
    wanted, size = split_names(options.features), image_size(options)

    def asked() -> str:
        paths, _ = folder.image_paths(path)
        try:
            return _digest(options, "folder", _listing(str(path), paths))
        except OSError:  # which is told with the file's name when that is looked at
            return ""

    def opened() -> Source:
        checked = options.skip_damaged, progress
        return folder.opened(path, wanted, size, options.channels, *checked)

    def content(source: Source) -> str:
        """The version is of the ends of each file alone, between which another may differ."""
        return f"{source.version} {_content(path, folder.image_paths(path)[0])}"

    return Origin(shown(path.name), "folder", "", asked, opened, content, _never, _with_itself)


def _file(options: DataOptions) -> Origin:
    path = user_path(options.file, "data.file")

    def asked() -> str:
        try:
            status = path.stat()
        except OSError:
            return ""
        return _digest(options, "file", [path.suffix.lower(), *_known(status)])

    def opened() -> Source:
        wanted = split_names(options.features)
        return files.opened(
            path, wanted, image_size(options), options.channels, options.text_bytes or BYTES
        )

    ready = functools.partial(files.is_ready, path)
    return Origin(shown(path.name), "file", "", asked, opened, _version, ready, _nothing)


def _shapes(options: DataOptions) -> Origin:
    def opened() -> Source:
        size = image_size(options)
        if size is None or size[0] != size[1]:
            raise UserError(
                f"the images of {shapes.NAME} are squares of a size to be given; pass "
                "--data.image-size, and neither height nor width"
            )
        drawn = shapes.opened(options.split, size[0], options.channels or 3)
        return select(drawn, split_names(options.features))

    def asked() -> str:
        return _digest(options, "drawn", shapes.version(options.split))

    about = shapes.NAME, "drawn", options.split
    return Origin(*about, asked, opened, _version, _never, _with_itself)


def _tfds(options: DataOptions, progress: bool) -> Origin:
    from jaxgan.data import tfds, tfds_preparing  # which import the package when they are called

    def asked() -> str:
        """Which version is read the package decides: with another one it is asked again."""
        tfds_preparing.check_name(options.name)
        root = tfds_preparing.data_dir(options) / tfds_preparing.set_name(options)
        try:
            package = importlib.metadata.version("tensorflow-datasets")
            listing = _listing(str(root), _files_below(root))
        except (OSError, importlib.metadata.PackageNotFoundError):
            return ""
        return _digest(options, "tfds", [options.name, options.split, package, listing])

    def content(source: Source) -> str:
        """A version may stand for other pixels: data sets of one's own are prepared again."""
        full_name = source.version.removesuffix(f" {options.split}")
        root = tfds_preparing.data_dir(options) / full_name
        return f"{full_name} {_content(root, _files_below(root))}"

    def reopened(source: Source) -> Any:
        return functools.partial(tfds.opened, options)

    opened = functools.partial(tfds.opened, options, progress)
    about = options.name, "tfds", options.split
    return Origin(*about, asked, opened, content, _never, reopened)


def _files_below(root: pathlib.Path) -> list[str]:
    """Relative paths of the plain files below a folder, sorted; raises `OSError` where there is no
    such folder."""
    found, waiting = [], [""]
    while waiting:
        within = waiting.pop()
        with os.scandir(root / within) as some:
            for entry in some:
                path = f"{within}{entry.name}"
                if entry.is_dir():
                    waiting.append(f"{path}/")
                elif entry.is_file():
                    found.append(path)
    return sorted(found, key=os.fsencode)


def _content(root: pathlib.Path, paths: list[str]) -> str:
    """A digest of files below a folder: of all bytes, or of large data of the ends of each and of
    when it was written."""
    digest = hashlib.blake2b(digest_size=16)
    found = [(root / path).stat() for path in paths]
    whole = sum(status.st_size for status in found) <= BYTES_HASHED
    for path, status in zip(paths, found, strict=True):
        size = status.st_size
        digest.update(os.fsencode(path) + f"\0{size};".encode())
        with (root / path).open("rb") as file:
            if whole:
                while part := file.read(2**22):
                    digest.update(part)
            else:
                digest.update(f"{status.st_mtime_ns};".encode() + file.read(_BYTES_SEEN))
                file.seek(max(size - _BYTES_SEEN, 0))
                digest.update(file.read(_BYTES_SEEN))
    return digest.hexdigest()
