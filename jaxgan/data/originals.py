"""The files that a data set of TFDS is prepared from: are they here, or can they be had?"""

import contextlib
import hashlib
import pathlib
import threading
import urllib.error
import urllib.request
from typing import Any

from jaxgan.errors import UserError

_CONNECT_SECONDS = 5


def check_manual_files(builder: Any, name: str, folder: str) -> bool:
    """Whether all original files are in `folder`; raises where one has other bytes than those."""
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
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != info.checksum:
            raise UserError(
                f"{path} is not {name}'s file: sha256 {digest[:12]}.., not {info.checksum[:12]}..; "
                "download it again"
            )
    return complete


def check_network(builder: Any, name: str, manual_dir: str | None) -> None:
    """Asks once whether the originals can be had; TFDS tries for minutes before it gives up.

    In a thread, because looking a name up cannot be timed out.
    """
    url = next(iter(builder.url_infos))
    reached: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(url, method="HEAD")
            try:
                urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
            except urllib.error.HTTPError as answer:  # a server that dislikes to be asked this way
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
            f"data set {name} is not prepared, {url} cannot be reached, and {where} its files; put "
            f"{_file_names(builder)} into a folder and pass --data.manual-dir, or train on "
            "--data.name digits"
        )


def _file_names(builder: Any) -> str:
    return ", ".join(sorted(info.filename or url for url, info in builder.url_infos.items()))
