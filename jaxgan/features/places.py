"""Extractors by what users write for them."""

from jaxgan.errors import UserError
from jaxgan.features import inception_v3
from jaxgan.features.extractor import Extractor, of_file
from jaxgan.user_files import is_place


def at(place: str | None, name: str = "extractor") -> Extractor | None:
    """The extractor of a place: `FILE.py:FUNCTION`, or a file of weights of Inception-v3.

    Args:
      place: as above; None for none given.
      name: of the option, for the message.

    Raises:
      UserError: for a place of another kind, or that cannot be loaded.
    """
    if place is None:
        return None
    if inception_v3.is_file(place):
        return inception_v3.inception(place)
    if is_place(place):
        return of_file(place)
    raise UserError(
        f"{name}={place!r} is neither a function nor weights; give FILE.py:FUNCTION, or a file "
        ".pth of Inception-v3"
    )
