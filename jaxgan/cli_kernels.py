"""`jaxgan kernels`: which ways of compiling were measured to be the fastest on this machine."""

import argparse
from typing import Any

from jaxgan import terminal


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of `kernels` and its options."""
    help = "show or clear what was measured of kernels on this machine"
    parser = commands.add_parser(
        "kernels", help=help, description=f"{help.capitalize()}.", allow_abbrev=False
    )
    help = "forget it; further runs measure anew, those that were begun keep theirs"
    parser.add_argument("--clear", action="store_true", help=help)
    return parser


def kernels_command(given: argparse.Namespace) -> int:
    """Shows what is remembered, or forgets it; returns the exit status."""
    from jaxgan.run import remembered

    kept, where = remembered.all_kept(), remembered.folder()
    if not kept:
        terminal.say(f"nothing was measured yet: {where or 'there is no home folder'} holds none")
        return 0
    for path, chosen in kept:
        if given.clear:
            path.unlink(missing_ok=True)
            continue
        about = chosen["about"]
        of = f"{about['device']}, jax {about['jax']}, game {about['game']} of {about['batch_size']}"
        terminal.say(f"{chosen['made']}  {of}: {chosen['line'].removeprefix('kernels: ')}")
    if given.clear:
        terminal.say(f"forgot {len(kept)} in {where}")
    return 0
