"""What `tlpo data` can be asked to do.

The command line takes its defaults from here, so this module imports nothing that would slow `tlpo --help` down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlpo_ray.config.detector import English


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """Prompts to filter as in Appendix B of the paper.

    Example: ``PrepareRequest(source="MBZUAI/Bactrian-X", language="ko", output=Path("ko.jsonl"))``
    """

    source: str
    """Hub dataset, file or folder."""
    language: str
    """Language of the prompts to keep. Prompts that state no language are identified; those whose language is not
    certain are taken to be in this one."""
    output: Path
    """JSONL file to write; the report is written beside it."""
    english: English = "neutral"
    """Whether English words in a prompt count as foreign ("confusion") or not ("neutral")."""
    max_characters: int = 500
    """Longer prompts are dropped, as in training (`data.max_characters`): of a conversation, the last message."""
    keep_language_names: bool = False
    keep_code: bool = False
    keep_foreign: bool = False
    """Whether prompts with words of another language are kept, e.g. questions about retrieved text that contain it."""
    keep_duplicates: bool = False
    with_answers: bool = False
    """Whether the dataset's answers are written too; prompts without one are dropped."""
    prompt_field: str | None = None
    """Field of the prompt, a text or a conversation; None selects the first of the usual ones that a record has."""
    answer_field: str = "output"
    """Field of the answer; the default is that of Bactrian-X. Without it, the answer that a conversation ends with is
    taken."""
    system_field: str | None = None
    """Field of a prompt's system prompt (`data.system_field`)."""
    context_field: str | None = None
    """Field of the text that was retrieved for a prompt (`data.context_field`)."""
    subset: str | None = None
    """Configuration of a hub dataset; None means the language for Bactrian-X."""
    split: str = "train"
    """Split of a hub dataset, or of a folder whose files name splits."""
    skip_bad: bool = False
    """Whether malformed records are counted instead of raised."""

    def __post_init__(self) -> None:
        """Take any name of a language for its code."""
        from detectors.language_names import code_or_name

        object.__setattr__(self, "language", code_or_name(self.language))


@dataclass(frozen=True, kw_only=True)
class PairsRequest:
    """Preference pairs to draw, either from a model's answers to `prompts`, or from `answers` that already exist.

    Example: ``PairsRequest(prompts="ko.jsonl", model="Qwen/Qwen3-8B", language="ko", output=Path("pairs.jsonl"))``
    """

    output: Path
    """JSONL file to write; the report is written beside it."""
    language: str
    """Language that answers should be in."""
    prompts: str | None = None
    """Prompt file, folder or hub dataset."""
    model: str | None = None
    """Folder or hub name of the model that answers the prompts."""
    answers: Path | None = None
    """Answers kept by `tlpo evaluate`, in place of `prompts` and `model`."""
    english: English = "neutral"
    """Whether English words in an answer are confusion."""
    samples: int = 16
    """Answers per prompt; 16 as in the paper."""
    temperature: float = 0.7
    """Sampling temperature."""
    max_new_tokens: int = 1024
    """Maximum length of an answer in tokens."""
    engine: str = "vllm"
    """Inference engine."""
    limit: int | None = None
    """Maximum number of prompts, a random part of them; None means all."""
    seed: int = 0
    """Seed of the sampling and of the draw among the answers."""
    skip_bad: bool = False
    """Whether malformed records are counted instead of raised."""
    like: str | None = None
    """Preset or configuration file that defines how prompts are rendered for the model."""

    def __post_init__(self) -> None:
        """Take any name of a language for its code."""
        from detectors.language_names import code_or_name

        object.__setattr__(self, "language", code_or_name(self.language))
