"""Settings of the policy: its weights, how a prompt becomes its input, and the adapter that may be trained."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tlpo_ray.config.fields import Positive, Section

Dtype = Literal["float32", "bfloat16"]
PROMPT = "{prompt}"
"""Place of the prompt in `model.prompt_template`; every other brace in it is literal text."""


class ModelConfig(Section):
    """The policy, and how a prompt becomes its input."""

    path: str
    """Folder or hub name of a Hugging Face causal language model."""
    revision: str | None = None
    """Hub revision; none takes the default branch."""
    dtype: Dtype = "bfloat16"
    """Data type of the weights in both engines and of weight transfers; the learner's master weights are float32."""
    max_context: Positive = 2048
    """Longest context, prompt and answer together, in tokens."""
    system_prompt: str | None = None
    """System prompt that precedes every prompt; none leaves it out."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments passed to the chat template, where one is used, e.g. `enable_thinking: false` for Qwen3."""
    prompt_template: str | None = None
    """Text that a prompt is put into at `{prompt}`, instead of the chat template: for base models, e.g.
    `"질문: {prompt}\\n답변:"`. None uses the chat template, or the prompt alone for a model without one."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end an answer, and do not belong to it, in addition to the end-of-text tokens: e.g. `["\\n"]`."""
    date: datetime.date | None = None
    """Date that chat templates see as today's, as YYYY-MM-DD. None takes the day on which the run begins; the run's
    folder records it, so that a resumed run sees the same."""
    allow_pickle: bool = False
    """Permission to load weights from `.bin` files, which can run code when they are read."""
    trust_remote_code: bool = False
    """Permission to run Python code that comes with the model. Leave it off for models that you do not know."""

    @model_validator(mode="after")
    def _prompt_is_complete(self) -> Self:
        template = self.prompt_template
        if template is not None and template.count(PROMPT) != 1:
            raise ValueError(
                f"model.prompt_template has {PROMPT} {template.count(PROMPT)} times: it needs it once, where the "
                f"prompt belongs"
            )
        for key in ("system_prompt", "date"):
            if template is not None and getattr(self, key):
                raise ValueError(
                    f"model.{key} has no effect with model.prompt_template, which replaces the chat template: put it "
                    f"into the template's text, or set model.{key}=null"
                )
        if "" in self.stop_strings:
            raise ValueError("model.stop_strings has an empty text, which every answer begins with: remove it")
        return self


class LoraConfig(Section):
    """A low-rank adapter beside frozen weights, W + (alpha / rank) B A. Only the adapter is trained and transferred."""

    rank: Annotated[int, Field(gt=0, le=512)] = 16
    """Rank of the adapter's matrices."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """Scale of the adapter: it is multiplied by alpha / rank."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    )  # fmt: skip
    """Names of the linear layers that get an adapter; each must be one of the model's."""
