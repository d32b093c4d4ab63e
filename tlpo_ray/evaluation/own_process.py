"""Work with an inference engine in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from tlpo_ray.errors import TlpoError
from tlpo_ray.evaluation.sampling import OnProgress
from tlpo_ray.stopping import out_of_reach

R = TypeVar("R")


def run_in_own_process(what: str, on_progress: OnProgress, work: Callable[..., R], *arguments: Any) -> R:
    """Return `work(*arguments, on_progress)`, computed by another process that ends afterwards.

    vLLM changes global state of torch, and a GPU's memory is certain to be free only once the process that held it has
    ended.

    Args:
        what: What the process does, for the message if it dies, e.g. "samples answers".
        on_progress: Called here with what the work reports.
        work: A function of a module; its arguments and its result can be pickled.
        arguments: Its arguments, except for the last one.

    Raises:
        TlpoError: The work raised it, or the process died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work_and_send, args=(sender, work, *arguments))
    with out_of_reach():
        process.start()
    sender.close()  # otherwise this process would hold the pipe open, and the other's death would go unnoticed
    try:
        return _receive(receiver, on_progress)  # type: ignore[no-any-return]
    except EOFError as error:
        process.join()
        raise TlpoError(f"the process that {what} died (exit code {process.exitcode})") from error
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()


def _receive(receiver: Connection, on_progress: OnProgress) -> Any:
    while True:
        match receiver.recv():
            case ("progress", done, total):
                on_progress(done, total)
            case ("result", result):
                return result
            case ("error", error):
                raise error


def _work_and_send(sender: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    def report(done: int, total: int) -> None:
        sender.send(("progress", done, total))

    try:
        sender.send(("result", work(*arguments, report)))
    except TlpoError as error:
        # Rebuilt from its message alone: a cause may hold objects that cannot be pickled.
        sender.send(("error", type(error)(str(error))))
