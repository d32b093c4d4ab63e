"""The configuration of a run, frozen. Each part of the system is handed only its own section.

The docstring below a field says its unit and effect; the manual's reference page is made of them. Defaults are those of
the paper where it gives them, and otherwise those of its public code (`PAPER.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.fields import (
    AdvantageForm,
    LanguageName,
    Positive,
    Resumable,
    RolloutEngine,
    Seconds,
    Section,
    Share,
    Trainer,
)
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.renamed import RUN_KEYS

MIB = 1 << 20
"""Bytes per MiB, the unit of fields called `…_mib`."""
GIB = 1 << 30
"""Bytes per GiB, the unit of messages to the user."""
CANDIDATES_LIMIT = 64
"""Largest candidate set: beyond it, the tail of π_old is noise."""


class CurriculumConfig(Section):
    """Sample prompts in proportion to how often prompts like them were confused lately, instead of all of them.

    The groups that are learned from are then not a fair sample of the prompts. Used by TLPO only.
    """

    min_probability: Annotated[float, Field(gt=0, le=1)]
    """Least probability with which a prompt is rolled out; prompts that are not count as skipped."""


class DataConfig(Section):
    """Source of the prompts."""

    prompts: str
    """Prompt file (`.jsonl`, `.json`, `.csv`, `.tsv`, also compressed, `.parquet`, `.arrow`), a folder of such files,
    or the name of a hub dataset."""
    languages: tuple[LanguageName, ...] = ()
    """Languages to train on, e.g. `[ko, zh-Hant]`; empty takes every language that the prompts name."""
    language: LanguageName | None = None
    """Language of all prompts that state none; None identifies it from each prompt."""
    prompt_field: str = "prompt"
    """Field that holds the prompt: a text, to which a field `input` of the same record is appended (Bactrian-X), or a
    conversation, i.e. a list of messages. Records without a field `prompt` may have their conversation in `messages`,
    `conversations` or `conversation`."""
    system_field: str | None = None
    """Field that holds a prompt's own system prompt, which replaces `model.system_prompt`. None takes `system` or
    `system_prompt` beside a conversation, and none beside a text."""
    context_field: str | None = None
    """Field that holds retrieved text, which is put before the user's last message: a text, or a list of texts or
    documents. None takes `documents` or `context` beside a conversation, and none beside a text."""
    language_field: str = "language"
    """Field that holds a prompt's language. The language of a prompt without it is `data.language`, or is identified
    from the user's last message."""
    id_field: str = "id"
    """Field that holds a prompt's id; prompts without it get file and line as their id."""
    subset: str | None = None
    """Configuration of a hub dataset, e.g. `ko` for Bactrian-X, or of a folder whose README.md lists some."""
    split: str = "train"
    """Split of a hub dataset, or of a folder whose files name splits."""
    limit: Positive | None = None
    """Largest number of prompts to use; none uses all of them."""
    max_characters: Positive = 500
    """Length in characters above which a prompt is skipped and counted (public code of the paper); of a conversation,
    the length of the user's last message."""
    drop_foreign: bool = False
    """Whether to skip prompts that contain characters of other languages (Appendix B)."""
    skip_bad: bool = False
    """Whether to count lines that cannot be read, and conversations that the model's chat template refuses, and
    continue, instead of stopping."""
    shuffle: bool = True
    """Whether to shuffle the prompts by `seed`, so that an update mixes languages and topics."""
    curriculum: CurriculumConfig | None = None
    """Curriculum that selects prompts to roll out, e.g. `{min_probability: 0.1}`; none rolls out all of them."""


class TruncationConfig(Section):
    """Cut most answers short while they are clean. Confusion that begins later is learned from in the others only."""

    max_new_tokens: Positive
    """Length at which an answer is cut if it is clean so far, in tokens."""
    probability: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the answers for which this holds, chosen at random."""


class RolloutConfig(Section):
    """Rollout actors: answers, confusion points, candidate sets, rewards."""

    engine: Annotated[RolloutEngine, Resumable] = "vllm"
    """Inference engine: vllm, transformers, or that of another package (entry points `tlpo_ray.rollout_engines`).
    transformers is for `stack: local`, and the reference in tests."""
    num_actors: Annotated[Positive, Resumable] = 1
    """Number of rollout actors, each with an engine of its own."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.6
    """Temperature of the sampled answers; candidate sets always come from the untempered distribution."""
    max_new_tokens: Positive = 512
    """Longest answer, in tokens."""
    truncation: TruncationConfig | None = None
    """Truncation of most answers while they are clean, e.g. `{max_new_tokens: 16}`; none samples all to their end."""
    num_candidates: Annotated[int, Field(ge=2, le=CANDIDATES_LIMIT)] = 16
    """Size N of the candidate set, in tokens."""
    selection: Literal["ranked", "ranked_with_sampled", "multinomial"] = "ranked"
    """Selection of candidates. ranked: the N most probable tokens; ranked_with_sampled: the same, but the token that
    was sampled takes the last place if it is not among them; multinomial: N tokens drawn without replacement."""
    lookahead: Literal["auto", "fixed"] = "auto"
    """How far a candidate is continued. auto: where single words decide nothing, as between languages in Latin script,
    until its language is certain; elsewhere, and with fixed, `lookahead_tokens`."""
    lookahead_tokens: Annotated[int, Field(ge=0, le=16)] = 3
    """Number k of greedy tokens after each candidate: the most tokens that one character can need, minus 1."""
    lookahead_limit: Annotated[int, Field(ge=1, le=128)] = 24
    """Number of greedy tokens after which a candidate whose language is still uncertain is given up: it gets reward 0
    and has no say in its group."""
    lease_size: Annotated[Positive, Resumable] = 64
    """Most prompts that a rollout actor leases at once."""
    concurrency: Annotated[Positive, Resumable] = 64
    """Most sequences that an engine runs at once."""
    kv_cache_mib: Annotated[Positive | None, Resumable] = None
    """Size of an engine's KV cache in MiB; none lets vLLM use its share of the GPU. Required on the CPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1), Resumable] = 0.9
    """Share of a GPU that must be free when vLLM starts, and that it fills if `kv_cache_mib` is not set."""
    tensor_parallel: Annotated[Positive, Resumable] = 1
    """Number of GPUs that an engine is spread over."""
    enforce_eager: Annotated[bool, Resumable] = False
    """Whether to skip compilation and CUDA graphs: starts a minute sooner, decodes slower. Always so on the CPU."""
    reproducible: bool = True
    """Whether to seed answers by run seed, prompt and policy version, so that a run can be repeated token by token."""


class LearnerConfig(Section):
    """The learner group, which makes TLPO's updates."""

    engine: Annotated[Trainer, Resumable] = "deepspeed"
    """Training engine: deepspeed, torch, or that of another package (entry points `tlpo_ray.trainers`); torch is for
    `stack: local`."""
    num_ranks: Annotated[Positive, Resumable] = 1
    """Number of learner ranks (data parallel)."""
    zero_stage: Annotated[Literal[0, 1, 2, 3], Resumable] = 1
    """ZeRO stage, i.e. what DeepSpeed shards. 1: optimizer state; 2: also gradients; 3: also weights and reference
    policy. A rank still loads both models into its host's memory first. A single rank in float32 has stage 0."""
    groups_per_update: Positive = 8
    """Confusion points per update (8 x 16 = 128 candidate tokens)."""
    num_iterations: Positive = 2
    """Number p of optimizer steps on the same batch, over which π_old is held fixed."""
    micro_batch_size: Annotated[Positive, Resumable] = 4
    """Contexts that a rank passes through the model at once."""
    lr: Annotated[float, Field(gt=0)] = 5e-7
    """Peak learning rate."""
    lr_min: Annotated[float, Field(ge=0)] = 5e-8
    """Learning rate at the end of the cosine."""
    warmup: Share = 0.1
    """Share of the prompts over which the learning rate rises to `lr`; it is never below `lr_min`."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay rates β1 and β2 of AdamW's moment estimates."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Weight decay of AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient norm above which gradients are scaled down to it."""
    clip_low: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Clip range ε below 1: the ratio counts as at least 1 - clip_low."""
    clip_high: Annotated[float, Field(ge=0)] = 0.2
    """Clip range ε above 1: the ratio counts as at most 1 + clip_high."""
    beta: Annotated[float, Field(ge=0)] = 0.04
    """Weight β of the KL to the reference policy; 0 loads no reference."""
    advantage: AdvantageForm = "tlpo"
    """Form of the advantage. tlpo: Eq. 5 and 6; unweighted: R - μ; grpo: (R - mean) / standard deviation; or that of
    another package (entry points `tlpo_ray.advantages`)."""
    recompute_old_logprobs: bool = False
    """Whether the learner computes π_old, and with it μ and the advantages, before the first step, instead of taking it
    from the rollout actor. Exact for groups of an older policy version; their candidate sets stay as they are."""
    lora: LoraConfig | None = None
    """Adapter to train instead of all weights, e.g. `learner.lora={rank: 16}`. The reference policy is then the model
    without the adapter. Needs `flow.weight_transfer: object_store`."""
    activation_checkpointing: Annotated[bool, Resumable] = False
    """Whether to recompute activations in the backward pass: less memory, about a third more time."""

    def for_dtype(self, dtype: str) -> LearnerConfig:
        """Return the settings that ranks run with, given the dtype of the model.

        A single rank has nothing to shard. In float32 it runs without ZeRO, which would keep a second copy of weights
        and gradients; the results are the same up to rounding. In bfloat16 they would not be: without ZeRO, DeepSpeed
        adds up gradients in float32.
        """
        return self.model_copy(update={"zero_stage": 0}) if self.num_ranks == 1 and dtype == "float32" else self

    @model_validator(mode="after")
    def _schedule_falls(self) -> Self:
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min {self.lr_min} is above lr {self.lr}: lower lr_min")
        return self


class FlowConfig(Section):
    """Data flow between actors and learner: staleness, weight transfer, deadlines and restarts."""

    max_staleness: Annotated[int, Field(ge=0)] = 0
    """Most policy versions that a group may be behind the learner; 0 is strictly on-policy."""
    queue_capacity: Annotated[Positive, Resumable] = 256
    """Number of queued groups at which rollout actors get no more prompts until the learner has taken some. At
    `max_staleness` 0 no more prompts are leased than an update is likely to need anyway."""
    bucket_mib: Annotated[Positive, Resumable] = 64
    """Size of a bucket of weights in a transfer, in MiB."""
    weight_transfer: Annotated[Literal["object_store", "nccl", "gloo"], Resumable] = "object_store"
    """Transport of weights. object_store: each rollout actor loads them when it is idle; works everywhere. nccl: one
    broadcast from GPU to GPUs, for which all rollout actors stop together. gloo: the same between CPUs."""
    full_sync_interval: Annotated[int, Field(ge=0), Resumable] = 0
    """Policy versions from one transfer of all weights to the next. 0: every version transfers all weights. n: versions
    in between transfer only weights with changed bits, for which learner and rollout actors keep a copy of the
    weights in the host's memory. Needs `weight_transfer: object_store`."""
    canary_tolerance: Annotated[float, Field(gt=0), Resumable] = 0.1
    """Largest difference of log-probabilities between actor and learner after a weight sync, in nats (bfloat16 kernels
    differ; float32: 1e-4)."""
    start_deadline_s: Annotated[Seconds, Resumable] = 600
    """Deadline for all actors and ranks to load their model, in seconds."""
    rollout_deadline_s: Annotated[Seconds, Resumable] = 600
    """Longest time without progress (a sampled token or a finished request) of a rollout actor that has a batch, in
    seconds. A batch may take any time: one that takes longer than this is reported as slow."""
    update_deadline_s: Annotated[Seconds, Resumable] = 600
    """Longest time without progress (a micro-batch or an optimizer step) of the learner group in an update, in
    seconds. An update may take any time: one that takes longer than this is reported as slow."""
    checkpoint_deadline_s: Annotated[Seconds, Resumable] = 3600
    """Longest time without progress (a tensor) while the learner group writes or loads a checkpoint, or writes the
    model, in seconds. Computing the checksums of a checkpoint, about 100 GB for an 8B model, shows no progress."""
    sync_deadline_s: Annotated[Seconds, Resumable] = 300
    """Longest time without progress (a bucket) while a rollout actor loads a policy version, in seconds. For a
    broadcast it is the longest time of the complete broadcast."""
    max_restarts: Annotated[int, Field(ge=0), Resumable] = 10
    """Most restarts per run, each for all rollout actors together, the learner group, and the exchange. A rollout actor
    that is lost after the last restart is not replaced."""
    min_healthy: Annotated[Positive, Resumable] = 1
    """Number of rollout actors below which the run stops; actors that are starting or loading weights count."""
    restart_backoff_s: Annotated[float, Field(ge=0), Resumable] = 0.5
    """Delay before a lost rollout actor is restarted, in seconds; doubled, up to a minute, each time that it is lost
    again before it has done any work."""
    heartbeat_s: Annotated[Seconds, Resumable] = 60
    """Time without progress in seconds after which a rollout actor that has a batch must generate the canary beside it;
    after two more such intervals without an answer or progress it is replaced. Progress is what counts for
    `rollout_deadline_s`, and any other token, or layer of the model, that its engine has computed."""


class CheckpointConfig(Section):
    """Checkpoints of the learner group during a run."""

    every_updates: Positive = 100
    """Updates from one checkpoint to the next."""
    keep_last: Positive = 2
    """Number of checkpoints that are kept; older ones are deleted."""


COLOCATED = {
    "stack": "distributed",
    "rollout.engine": "vllm",
    "rollout.num_actors": 1,
    "rollout.tensor_parallel": 1,
    "learner.num_ranks": 1,
    "flow.max_staleness": 0,
    "flow.weight_transfer": "object_store",
}
"""Settings that `cluster.colocated` requires."""


class RunConfig(Section):
    """The configuration of one run."""

    renamed_keys: ClassVar[Mapping[str, str]] = RUN_KEYS

    name: Annotated[str, Resumable] = "tlpo"
    """Name of the run; its folder is `folder`."""
    folder: Annotated[Path, Resumable] = Path("runs/tlpo")
    """Run folder, for configuration, metrics, experiences, checkpoints, model and result."""
    seed: int = 0
    """Seed for the order of the prompts, for sampling and for training."""
    stack: Annotated[Literal["distributed", "local"], Resumable] = "distributed"
    """Execution of the run. distributed: Ray, vLLM, DeepSpeed; local: one process, transformers and torch, the same
    algorithm."""
    trackers: Annotated[tuple[Literal["wandb", "mlflow"], ...], Resumable] = ()
    """Services that get the metrics in addition to the run folder: Weights & Biases, MLflow. Their packages must be
    installed, and access is configured with their environment variables (`WANDB_API_KEY`, `MLFLOW_TRACKING_URI`)."""
    model: ModelConfig
    data: DataConfig
    detector: DetectorConfig = DetectorConfig()
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    learner: LearnerConfig = Field(default_factory=LearnerConfig)
    flow: FlowConfig = FlowConfig()
    cluster: Annotated[ClusterConfig, Resumable] = ClusterConfig()
    checkpoint: Annotated[CheckpointConfig, Resumable] = CheckpointConfig()

    @model_validator(mode="after")
    def _sections_are_consistent(self) -> Self:
        rollout, learner, flow = self.rollout, self.learner, self.flow
        if rollout.max_new_tokens >= self.model.max_context:
            raise ValueError(
                f"rollout.max_new_tokens {rollout.max_new_tokens} leaves no room for a prompt in "
                f"model.max_context {self.model.max_context}: lower the first or raise the second"
            )
        if self.cluster.colocated:
            self._check_colocated()
        self._check_engines()
        if flow.weight_transfer != "object_store":
            self._check_broadcast()
        if learner.num_ranks > learner.groups_per_update:
            raise ValueError(
                f"learner.num_ranks {learner.num_ranks} exceeds learner.groups_per_update "
                f"{learner.groups_per_update}: a rank without a confusion point has nothing to do, lower the first or "
                f"raise the second"
            )
        if flow.queue_capacity < learner.groups_per_update:
            raise ValueError(
                f"flow.queue_capacity {flow.queue_capacity} is below learner.groups_per_update "
                f"{learner.groups_per_update}: an update could never fill, raise the first or lower the second"
            )
        return self

    def _check_engines(self) -> None:
        """Refuse built-in engines that do not go with the stack; other packages' engines check themselves."""
        engine, trainer = self.rollout.engine, self.learner.engine
        if self.stack == "local" and (engine == "vllm" or trainer == "deepspeed"):
            raise ValueError(
                f"stack local has rollout.engine {engine} and learner.engine {trainer}: "
                f"set rollout.engine=transformers and learner.engine=torch, or stack=distributed"
            )
        if self.stack == "distributed" and trainer == "torch" and self.learner.num_ranks > 1:
            raise ValueError(
                f"learner.engine torch is one process, learner.num_ranks is {self.learner.num_ranks}: "
                f"set learner.engine=deepspeed or learner.num_ranks=1"
            )

    def _check_broadcast(self) -> None:
        """Refuse settings that a broadcast of weights cannot serve."""
        transfer = self.flow.weight_transfer
        if self.flow.full_sync_interval:
            raise ValueError(
                f"flow.full_sync_interval {self.flow.full_sync_interval} needs flow.weight_transfer object_store, "
                f"it is {transfer}: a broadcast always sends all weights, set flow.full_sync_interval=0"
            )
        if self.learner.lora is not None:
            raise ValueError(
                f"learner.lora needs flow.weight_transfer object_store, it is {transfer}: adapters are not broadcast, "
                f"set flow.weight_transfer=object_store"
            )
        if self.stack == "local" or self.rollout.engine == "transformers":
            raise ValueError(
                f"flow.weight_transfer {transfer} is between processes and into vLLM, but stack is "
                f"{self.stack} and rollout.engine {self.rollout.engine}: set flow.weight_transfer=object_store"
            )

    def _check_colocated(self) -> None:
        """Refuse a colocated run if its actors and ranks could not take turns on one GPU."""
        for key, needed in COLOCATED.items():
            section, _, name = key.rpartition(".")
            value = getattr(getattr(self, section) if section else self, name)
            if value != needed:
                raise ValueError(f"cluster.colocated needs {key} {needed}, it is {value}: set {key}={needed}")
