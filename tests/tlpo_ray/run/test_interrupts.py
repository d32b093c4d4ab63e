"""Commands on a terminal are interrupted: one line, no process left, and a run can be resumed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.interrupts import CTRL_C, TERM, TLPO, Interrupt, Terminal, interrupted
from tests.small_run import LOCAL, run, run_config
from tlpo_ray.config.load import dump_config
from tlpo_ray.errors import StoppedError
from tlpo_ray.progress import TrainingProgress
from tlpo_ray.run.training import describe_stop
from tlpo_ray.stopping import deferred, stop_on_signal

PATIENCE_S = 240.0


def interrupt_when(command: Sequence[str], how: str, condition: Callable[[Terminal], bool], errors: Path) -> Interrupt:
    """Interrupt a command as soon as a condition holds; it has to end as users are promised."""
    with Terminal(command, errors) as terminal:
        while not condition(terminal):
            assert terminal.process.poll() is None, terminal.errors
            assert time.monotonic() - terminal.began < PATIENCE_S, terminal.last_line
            time.sleep(0.01)
        found = interrupted(terminal, how, "")
    assert not found.faults
    assert found.code, "the command was over too soon"
    return found


def is_updating(folder: Path) -> bool:
    """Return whether an update of a run has begun and is not committed."""
    journal = folder / "journal"
    return len(list(journal.glob("groups-*"))) > len(list(journal.glob("state-*")))


@pytest.mark.ray
def test_a_run_is_interrupted_at_its_start_between_updates_and_in_an_update(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    many, folder, file = tmp_path / "many.jsonl", tmp_path / "run", tmp_path / "run.yaml"
    many.write_text(prompts.read_text() * 2)
    file.write_text(dump_config(run_config(tiny_model, many, folder)), encoding="utf-8")
    begin, resume = [TLPO, "train", str(file)], [TLPO, "train", "--resume", str(folder)]
    how_to_resume = f"nothing is lost, resume with: {' '.join(['tlpo', *resume[1:]])}"

    found = interrupt_when(begin, CTRL_C, lambda terminal: "on Ray" in terminal.screen, tmp_path / "errors-1.txt")
    # A fast machine has started the run before the signal arrives: then it can be resumed.
    again = begin if found.line == "tlpo: stopped by SIGINT before the run had started: start it again" else resume
    assert again == begin or found.line == f"tlpo: stopped by SIGINT; {how_to_resume}"
    second = folder / "journal" / "state-00000002.json"
    found = interrupt_when(again, CTRL_C, lambda terminal: second.exists(), tmp_path / "errors-2.txt")
    assert found.line == f"tlpo: stopped by SIGINT; {how_to_resume}"

    def in_update(terminal: Terminal) -> bool:
        return "policy v" in terminal.screen and is_updating(folder)

    found = interrupt_when(resume, TERM, in_update, tmp_path / "errors-3.txt")
    assert found.line == f"tlpo: stopped by SIGTERM; {how_to_resume}"
    with Terminal(resume, tmp_path / "errors-4.txt") as terminal:
        assert terminal.process.wait(PATIENCE_S) == 0, terminal.errors
    assert (folder / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [CTRL_C, TERM])
def test_an_evaluation_is_interrupted(how: str, tiny_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "수도는?"}\n' * 500)
    options = ["--prompts", str(prompts), "--language", "ko", "--samples", "8", "--engine", "transformers"]
    command = [TLPO, "evaluate", str(tiny_model), *options, "--output", str(tmp_path / "result")]
    found = interrupt_when(command, how, lambda terminal: "of 500 prompts" in terminal.screen, tmp_path / "errors.txt")
    assert found.line.endswith("; nothing of this evaluation is kept")
    assert not (tmp_path / "result").exists()


def test_a_run_that_is_stopped_between_updates_has_none_to_repeat(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    config = run_config(tiny_model, prompts, tmp_path / "run", **LOCAL)
    seen: list[int] = []

    def listener(progress: TrainingProgress) -> None:
        if progress.version == 2 and 2 not in seen:
            os.kill(os.getpid(), signal.SIGTERM)
        seen.append(progress.version)

    with (
        pytest.raises(StoppedError, match="nothing is lost"),
        stop_on_signal(partial(describe_stop, config.folder)),
        deferred(),
    ):
        run(config, listener)
    assert seen[-1] == 2
    assert [folder.name for folder in (config.folder / "checkpoints").iterdir()] == ["update-00000002"]
    assert (config.folder / "journal" / "state-00000002.json").exists()
