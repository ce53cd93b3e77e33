"""Where the command begins: streams and signals first, then all that takes time to import."""

import sys

from jaxgan import terminal
from jaxgan.run import signals


def main() -> int:
    """Runs the command line; returns the exit status.

    0: done, or stopped by a signal and saved. 2: something is wrong, and one line on standard error
    says what. 128 + n: signal n came before there was anything to save, or came twice.
    """
    terminal.open_closed_streams()
    with signals.handled(to_the_end=True) as noted:
        try:
            with signals.at_once():
                if sys.argv[1:2] == ["doctor"] and set(sys.argv[2:]) <= {"--json"}:
                    from jaxgan.doctor import page  # which needs no JAX

                    return page.main("--json" in sys.argv)
                try:
                    from jaxgan import cli
                except Exception as error:  # such as JAX_NUM_CPU_DEVICES=x, or no jaxlib
                    terminal.complain(
                        f"what is installed cannot be imported: {type(error).__name__}: {error}; "
                        "mend that, or install it again"
                    )
                    return 2
                return cli.main()
        except BaseException as error:
            # An import that is interrupted raises errors of other kinds, too.
            stopped = isinstance(error, signals.Stopped)  # also by a signal to another process
            if not (stopped or noted) or isinstance(error, SystemExit):
                raise
            name = str(error) if stopped else noted[0]
            terminal.complain(f"stopped by {name} {signals.when(error)}")
            return signals.status(name)
