"""Entry of the `tlpo` command and of `python -m tlpo_ray`: ready for signals before the rest is imported."""

from __future__ import annotations

import signal

from tlpo_ray.stopping import end_on_signal


def main() -> None:
    """Run a command; a signal ends it with one line, also while it imports or exits."""
    # What holds before and after the command: a process that is about to exit dies of Ctrl-C without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_on_signal(_command)


def _command() -> None:
    from tlpo_ray.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
