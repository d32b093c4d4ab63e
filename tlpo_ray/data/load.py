"""The prompts of a run, verified before anything starts."""

from __future__ import annotations

from pathlib import Path

import detectors
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.appendix_b import rejects_foreign_text
from tlpo_ray.data.prompts import PromptSet, read_prompts
from tlpo_ray.errors import PromptFileError


def load_prompts(data: DataConfig, detector: DetectorConfig, seed: int, spool: Path | None = None) -> PromptSet:
    """Read the prompts of a run, and make sure that the detector supports their languages.

    Args:
        data: source, fields, filters and limit.
        detector: the run's detector; every language of the prompts must have one.
        seed: seed of the order of the prompts.
        spool: folder in which the prompts are kept on disk; see `read_prompts`.

    Raises:
        DetectorError: The detector does not exist, or does not support the settings or a prompt's language.
        PromptFileError: The prompts cannot be read, or none is left.
        ResourceError: `spool` cannot be written.
    """
    languages = detectors.DetectorSet(detector.name, detector.english, detector.settings)
    # The configured languages first: reading a large file takes minutes, and a misspelt language should fail at once.
    for language in data.languages or filter(None, [data.language]):
        _ = languages[language]
    prompts = read_prompts(data, seed, rejects_foreign_text(detector.english) if data.drop_foreign else None, spool)
    for language in prompts.languages:
        _ = languages[language]
    if not prompts.prompts:
        left_out = "".join(f"; {line}" for line in prompts.note_lines())
        raise PromptFileError(
            f"{data.prompts}: none of {prompts.total} prompts is left (skipped: {dict(prompts.skipped)}{left_out}); "
            f"check data.languages, data.max_characters and the file"
        )
    return prompts
