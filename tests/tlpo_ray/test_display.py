"""What the terminal shows of a phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tlpo_ray.commands import display
from tlpo_ray.commands.display import TerminalProgress
from tlpo_ray.progress import TrainingProgress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of the spinner, in order."""
    texts: list[str] = []

    class Spinner:
        def update(self, text: str) -> None:
            texts.append(text)

    @contextmanager
    def step(description: str) -> Iterator[Spinner]:
        texts.append(description)
        yield Spinner()

    monkeypatch.setattr(display, "step", step)
    return texts


def test_a_description_that_is_updated_with_a_share_gets_no_percentage(shown: list[str]) -> None:
    with TerminalProgress().phase("64 prompts · m (vllm)") as update:
        update("40 of 64 prompts · m (vllm)", 40 / 64)
    assert set(shown) == {"64 prompts · m (vllm)", "40 of 64 prompts · m (vllm)"}


def test_a_share_alone_is_shown_behind_the_description(shown: list[str]) -> None:
    with TerminalProgress().phase("loading") as update:
        update(share=0.5)
        update("converting")
        update(share=0.25)
    assert shown == ["loading", "loading · 50%", "converting", "converting · 25%", "converting"]


def test_a_line_of_progress_names_the_processes_that_are_slow(capsys: pytest.CaptureFixture[str]) -> None:
    state = TrainingProgress(
        prompts=10, settled=10, leased=0, queue_depth=0, confusion_rate=0.0, rpr=1.0, version=1, tokens_generated=7,
        seconds=1.0,
    )  # fmt: skip
    for slow in ((), ("rollout-0.0", "learner")):
        with TerminalProgress() as progress:
            progress.training(replace(state, slow=slow))
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("7 tok/s") and second == f"{first} · slow: rollout-0.0, learner"
