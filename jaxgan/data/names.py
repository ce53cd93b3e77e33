"""Names of features that a user asks for."""

from collections.abc import Iterable

from jaxgan.errors import UserError
from jaxgan.names import unknown


def split_names(text: str) -> tuple[str, ...]:
    """'image, label' -> ('image', 'label')."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def chosen(wanted: Iterable[str], known: Iterable[str], source: str) -> tuple[str, ...]:
    """The wanted names, or all that are known where none is wanted.

    Raises:
      UserError: for a name that is not known.
    """
    known = tuple(known)
    wanted = tuple(wanted)
    for name in wanted:
        if name not in known:
            raise UserError(f"data.features of {source}: " + unknown("feature", name, known))
    return wanted or known
