"""The prompts of a run, checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import detectors
from tlpo_ray.config.run import DataConfig, DetectorConfig
from tlpo_ray.data.appendix_b import foreign
from tlpo_ray.data.prompts import PromptSet, read_prompts
from tlpo_ray.errors import PromptFileError


def checked_prompts(data: DataConfig, detector: DetectorConfig, seed: int, spool: Path | None = None) -> PromptSet:
    """The run's prompts; an unknown language and an empty set are refused before anything starts.

    Args:
        spool: see `read_prompts`.

    Raises:
        DetectorError: there is no such detector, not with these settings, or none for a prompt's language.
        PromptFileError: the prompts cannot be read, or none is left.
    """
    for language in data.languages or filter(None, [data.language]):
        _check_detector(detector, language)
    prompts = read_prompts(data, seed, foreign(detector.english) if data.drop_foreign else None, spool)
    for language in prompts.languages:
        _check_detector(detector, language)
    if not prompts.prompts:
        raise PromptFileError(
            f"{data.prompts}: none of {prompts.total} prompts is left (skipped: {dict(prompts.skipped)}); "
            f"check data.languages, data.max_characters and the file"
        )
    return prompts


def _check_detector(detector: DetectorConfig, language: str) -> None:
    detectors.build_detector(detector.name, language, detector.english, detector.settings)
