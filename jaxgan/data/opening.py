"""From options to a source."""

from jaxgan.data import cached, mixtures, shapes, stacked
from jaxgan.data.entries import Entry
from jaxgan.data.names import split_names
from jaxgan.data.options import DataOptions, check
from jaxgan.data.origins import origin_of
from jaxgan.data.preparing import NotKept
from jaxgan.data.source import Source, select
from jaxgan.errors import UserError
from jaxgan.options import replace, to_dict


def open_source(options: DataOptions, progress: bool = False, keep: bool = True) -> Source:
    """Opens, and where need be prepares, the data that the options name.

    Args:
      options: `folder` and `file` come before `name`.
      progress: show bars while preparing and looking at files.
      keep: keep what is decoded and resized for the next time, see `data.cache`.

    Raises:
      UserError: for data that cannot be had or do not fit the options.
      RunError: for data that cannot be read to be kept.
    """
    options = _checked(options)
    if _is_mixture(options):
        source = mixtures.opened(options.name, options.split)
        return select(source, split_names(options.features))
    if grey := stacked.of_one(options):
        one = open_source(grey, progress, keep)
        source = stacked.opened(options.name, one, options.resident_limit_mb)
        return select(source, split_names(options.features))
    origin = origin_of(options, progress)
    return cached.source_of(origin, options.cache, options.resident_limit_mb, keep, progress)


def prepare(options: DataOptions, progress: bool = False) -> Entry | None:
    """Prepares the data that the options name, or finds that they are.

    Returns:
      What is kept; None for data that lie ready as they are.

    Raises:
      UserError: for data that cannot be had, and where there is no room for them.
      RunError: for examples that cannot be read.
    """
    options = _checked(options)
    if options.cache is None:
        raise UserError("data.cache=none keeps nothing; name a folder, or leave it out")
    if _is_mixture(options):
        return None
    if grey := stacked.of_one(options):
        return prepare(grey, progress)
    cached.root_of(options.cache)
    origin = origin_of(options, progress)
    asked = origin.asked()
    source = origin.open()
    if origin.is_ready(source):
        return None
    try:
        return cached.kept(origin, source, options.cache, asked, say=True, progress=progress)
    except NotKept as error:
        raise UserError(f"prepared data {error}") from None


def needs_preparing(options: DataOptions) -> bool:
    """Whether opening the data would first prepare a data set of TFDS, which may download for long.
    Nothing is written; the embedded digits take a second and count as prepared.

    Raises:
      UserError: as `open_source`, for an unknown name.
    """
    options = _checked(options)
    named = options.folder is None and options.file is None
    if not named or _is_mixture(options) or options.name in (shapes.NAME, DataOptions.name):
        return False
    if grey := stacked.of_one(options):
        return needs_preparing(grey)
    if cached.known(origin_of(options), options.cache):
        return False
    from jaxgan.data import tfds

    return not tfds.is_prepared(options)


def splits(options: DataOptions) -> tuple[str, ...]:
    """The names of the splits that the named data come in; none for a folder or a file, and for a
    data set of TFDS that is not prepared yet. Nothing is written.

    Raises:
      UserError: as `open_source`, for an unknown name.
    """
    options = _checked(options)
    if options.folder is not None or options.file is not None:
        return ()
    if options.name == shapes.NAME or _is_mixture(options):
        return tuple(shapes.EXAMPLES)
    from jaxgan.data import tfds_preparing

    builder, _ = tfds_preparing.found_builder(options)
    return tuple(builder.info.splits) if builder else ()


def _checked(options: DataOptions) -> DataOptions:
    options = replace(DataOptions(), to_dict(options))  # looks at each by itself
    check(options)
    return options


def _is_mixture(options: DataOptions) -> bool:
    return options.folder is None and options.file is None and options.name in mixtures.MIXTURES
