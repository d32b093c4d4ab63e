"""`tlpo export`: a run's model, or its adapter, to where it is wanted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tlpo_ray import __version__
from tlpo_ray.commands.display import console, step
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ResourceError, UserError, first_line
from tlpo_ray.run.control import require_run

CARD = """---
{of_base}library_name: {library}
tags: [language-confusion, tlpo]
---

`{base}` after Token-Level Policy Optimization against language confusion (tlpo-ray {version}).

| | |
|---|---|
{rows}
"""


def export_command(run: Path, output: Path | None, adapter: bool, push: str | None, public: bool) -> None:
    """Copy what a run has made to `output`, or put it on the hub as `push`.

    Raises:
        UserError: the run has not made it, or `output` is there already.
        ResourceError: the hub refuses.
    """
    if output is None and push is None:
        raise UserError("tlpo export needs a folder to write to, or --push NAME")
    config = _config(run)
    made = run / ("adapter" if adapter else "model")
    if not made.is_dir():
        why = "it trained all weights" if adapter and config.learner.lora is None else "it has not ended"
        raise UserError(f"{made} is not there: {why}")
    if output is not None:
        _copy(made, output)
    if push is not None:
        _push(made, push, _card(run, config, adapter), private=not public)


def _config(run: Path) -> RunConfig:
    require_run(run)
    return load_config(str(run / "config.yaml"))


def _copy(made: Path, output: Path) -> None:
    if output.exists():
        raise UserError(f"{output} is there already: choose another folder, or remove it")
    try:
        shutil.copytree(made, output)
    except OSError as error:
        shutil.rmtree(output, ignore_errors=True)
        raise ResourceError(f"cannot write {output}: {error.strerror or error}") from error
    console.print(f"{made.name} written to {output}", soft_wrap=True)


def _push(made: Path, name: str, card: str, *, private: bool) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = HfApi()
    content: dict[str, Path | bytes] = {str(file.relative_to(made)): file for file in made.rglob("*") if file.is_file()}
    content["README.md"] = card.encode()
    files = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=what) for path, what in sorted(content.items())]
    try:
        with step(f"{name}, {'private' if private else 'public'}, on the hub"):
            hub.create_repo(name, private=private, exist_ok=True)
            hub.create_commit(name, files, commit_message=f"tlpo-ray {__version__}")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise ResourceError(
            f"the hub does not take {name}: {first_line(error)}; a token that may write is needed (HF_TOKEN)"
        ) from error


def _card(run: Path, config: RunConfig, adapter: bool) -> str:
    """What the hub shows of a model. A base that is a path is called by its last word: the hub takes none as a base."""
    base, on_hub = config.model.path, _on_hub(config.model.path)
    result: dict[str, Any] = {}
    if (run / "result.json").exists():
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    rows = {
        "languages": ", ".join(config.data.languages or filter(None, [config.data.language])),
        "English in answers": "is confusion" if config.detector.english == "confusion" else "is not confusion",
        "updates": result.get("updates"),
        "confusion points learned from": result.get("confusion_points"),
        "RPR of the answers sampled while training": result.get("rpr_sampled"),
    }
    return CARD.format(
        of_base=f"base_model: {base}\n" if on_hub else "",
        base=base if on_hub else Path(base).name,
        library="peft" if adapter else "transformers",
        version=__version__,
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items() if value),
    )


def _on_hub(name: str) -> bool:
    """Whether a name may be one on the hub, and is no folder here."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()
