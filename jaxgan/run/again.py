"""A run that is to be begun again from its workdir, as after a kill."""

import functools
from collections.abc import Callable
from typing import Any

from jaxgan.errors import RunError


class Again(RunError):
    """Raised in a run, by a hook say, to begin it again from what lies in its workdir."""


def repeated(train: Callable) -> Callable:
    """A function that trains, begun again with the same arguments where it raises `Again`."""

    @functools.wraps(train)
    def until_done(*arguments: Any, **options: Any) -> Any:
        while True:
            try:
                return train(*arguments, **options)
            except Again:
                options["must_resume"] = False  # it may go back to the beginning

    return until_done
