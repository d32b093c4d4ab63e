"""How long-running work reports its progress: the library calls a listener, the terminal (or a notebook) shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """State of a TLPO run."""

    prompts: int
    """Prompts of the run."""
    settled: int
    """Prompts among them that have their final outcome."""
    leased: int
    """Prompts among them that rollout actors are working on."""
    queue_depth: int
    """Candidate groups that wait for the learner."""
    confusion_rate: float
    """Share of confused answers among those to the last few hundred prompts."""
    rpr: float
    """Response pass rate of all answers sampled so far (Eq. 8)."""
    version: int
    """Policy version, which is the number of updates."""
    tokens_generated: int
    """Tokens sampled since the run was started or resumed."""
    seconds: float
    """Seconds since the run was started or resumed."""
    slow: tuple[str, ...] = ()
    """Processes whose work takes longer than its deadline and makes progress, e.g. rollout-0.0."""

    @property
    def complete(self) -> bool:
        """Whether every prompt has its final outcome."""
        return self.settled == self.prompts


class PhaseUpdate(Protocol):
    """Updates what is shown of the phase that is under way."""

    def __call__(self, description: str | None = None, share: float | None = None) -> None:
        """Change the phase's description, or the share of it that is done (0 to 1), or both."""


class ProgressListener:
    """Receives progress; this base class ignores all of it. Override what you want to show.

    Example::

        class Printer(ProgressListener):
            def note(self, line: str) -> None:
                print(line)

        tlpo_ray.train(config, progress=Printer())
    """

    @contextmanager
    def phase(self, description: str) -> Iterator[PhaseUpdate]:
        """Enclose a phase of the work, e.g. loading a model or sampling answers; yields a function to update it."""

        def ignore(description: str | None = None, share: float | None = None) -> None: ...

        yield ignore

    def note(self, line: str) -> None:
        """Receive one line of information that belongs to no phase."""

    def training(self, progress: TrainingProgress) -> None:
        """Receive the state of a TLPO run, about once per second."""

    def training_done(self) -> None:
        """Learn that training has ended: the last checkpoint and the model are written."""


SILENT = ProgressListener()
"""The default: shows nothing."""
