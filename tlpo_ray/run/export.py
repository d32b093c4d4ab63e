"""Exports the model of a run, or its adapter: to another folder, or to the Hugging Face Hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tlpo_ray.cluster.events import require_run
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.config.versions import VERSION
from tlpo_ray.errors import ResourceError, UserError, first_line
from tlpo_ray.files import disk_errors, read_json

MODEL_CARD = """---
{base_model}library_name: {library}
tags: [language-confusion, tlpo]
---

`{base}` after Token-Level Policy Optimization against language confusion (tlpo-ray {version}).

| | |
|---|---|
{rows}
"""


def export_model(run: Path, output: Path, *, adapter: bool = False) -> Path:
    """Copy the model of a run to `output`, which must not exist; return the folder that was copied.

    Args:
        run: The run folder.
        output: Folder to create.
        adapter: Export the adapter of a run with `learner.lora` instead of the merged model.

    Raises:
        UserError: The folder does not hold a run, the run has no such model yet, or `output` exists.
        ResourceError: `output` cannot be written.
    """
    model = _trained_model(run, _run_config(run), adapter)
    if output.exists():
        raise UserError(f"{output} already exists: choose another folder, or remove it")
    try:
        with disk_errors(str(output)):
            shutil.copytree(model, output)
    except ResourceError:
        shutil.rmtree(output, ignore_errors=True)
        raise
    return model


def push_to_hub(run: Path, name: str, *, adapter: bool = False, public: bool = False) -> None:
    """Upload the model of a run to the hub in one commit, with a model card.

    Args:
        run: The run folder.
        name: Repository on the hub, e.g. `my-organization/qwen3-8b-ko`; it is created if it does not exist.
        adapter: Upload the adapter of a run with `learner.lora` instead of the merged model.
        public: Create the repository as a public one.

    Raises:
        UserError: The folder does not hold a run, or the run has no such model yet.
        ResourceError: The hub does not accept the upload.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    config = _run_config(run)
    model = _trained_model(run, config, adapter)
    content: dict[str, Path | bytes] = {
        str(file.relative_to(model)): file for file in model.rglob("*") if file.is_file()
    }
    content["README.md"] = model_card(run, config, adapter=adapter).encode()
    files = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=what) for path, what in sorted(content.items())]
    hub = HfApi()
    try:
        hub.create_repo(name, private=not public, exist_ok=True)
        hub.create_commit(name, files, commit_message=f"tlpo-ray {VERSION}")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise ResourceError(
            f"the hub did not accept {name}: {first_line(error)}; set HF_TOKEN to a token with write access"
        ) from error


def model_card(run: Path, config: RunConfig, *, adapter: bool = False) -> str:
    """Return the model card of a run's model in Markdown.

    A base model that is a local path appears only by its last component: the hub accepts no path as a base model.
    """
    base, on_hub = config.model.path, _may_be_on_hub(config.model.path)
    result: dict[str, Any] = {}
    if (run / "result.json").exists():
        result = read_json(run / "result.json")
    rows = {
        "languages": ", ".join(config.data.languages or filter(None, [config.data.language])),
        "English in answers": "is confusion" if config.detector.english == "confusion" else "is not confusion",
        "updates": result.get("updates"),
        "confusion points learned from": result.get("confusion_points"),
        "RPR of the answers sampled while training": result.get("rpr_sampled"),
    }
    return MODEL_CARD.format(
        base_model=f"base_model: {base}\n" if on_hub else "",
        base=base if on_hub else Path(base).name,
        library="peft" if adapter else "transformers",
        version=VERSION,
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items() if value),
    )


def _run_config(run: Path) -> RunConfig:
    require_run(run)
    return load_config(str(run / "config.yaml"))


def _trained_model(run: Path, config: RunConfig, adapter: bool) -> Path:
    model = run / ("adapter" if adapter else "model")
    if not model.is_dir():
        why = "the run trained all weights" if adapter and config.learner.lora is None else "the run has not ended"
        raise UserError(f"{model} does not exist: {why}")
    return model


def _may_be_on_hub(name: str) -> bool:
    """Return whether a model's name is a valid name on the hub and not a folder on this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()
