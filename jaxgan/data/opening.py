"""From options to a source."""

from jaxgan.data import files, folder, mixtures, shapes
from jaxgan.data.names import split_names
from jaxgan.data.options import DataOptions, check, image_size
from jaxgan.data.source import Source, select
from jaxgan.errors import UserError
from jaxgan.options import replace, to_dict
from jaxgan.paths import user_path


def open_source(options: DataOptions, progress: bool = False) -> Source:
    """Opens, and where need be prepares, the data that the options name.

    Args:
      options: `folder` and `file` come before `name`.
      progress: show bars while preparing and looking at files.

    Raises:
      UserError: for data that cannot be had or do not fit the options.
    """
    options = replace(DataOptions(), to_dict(options))  # looks at each by itself
    check(options)
    wanted, size = split_names(options.features), image_size(options)
    if options.folder is not None:
        return folder.opened(
            user_path(options.folder, "data.folder"),
            wanted,
            size,
            options.channels,
            options.skip_damaged,
            progress,
        )
    if options.file is not None:
        path = user_path(options.file, "data.file")
        return files.opened(path, wanted, size, options.channels)
    if options.name in mixtures.MIXTURES:
        return select(mixtures.opened(options.name, options.split), wanted)
    if options.name == shapes.NAME:
        return select(_shapes(options, size), wanted)
    from jaxgan.data import tfds  # which needs packages that the others do not

    return tfds.opened(options, progress)


def needs_preparing(options: DataOptions) -> bool:
    """Whether opening the data would first prepare them, which may download for long. Nothing is
    written; the embedded digits take a second and count as prepared.

    Raises:
      UserError: as `open_source`, for an unknown name.
    """
    check(options)
    at_hand = (*mixtures.MIXTURES, shapes.NAME, DataOptions.name)
    if options.folder is not None or options.file is not None or options.name in at_hand:
        return False
    from jaxgan.data import tfds

    return not tfds.is_prepared(options)


def _shapes(options: DataOptions, size: tuple[int, int] | None) -> Source:
    if size is None or size[0] != size[1]:
        raise UserError(
            f"the images of {shapes.NAME} are squares of a size to be given; pass "
            "--data.image-size, and neither height nor width"
        )
    return shapes.opened(options.split, size[0], options.channels or 3)
