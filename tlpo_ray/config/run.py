"""One frozen description of a run. Each part of the system is handed only its own section.

A docstring under a field says its unit and effect. Defaults are the paper's where it gives them, else its
public code's (`PAPER.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tlpo_ray.config.plugins import ADVANTAGES, ROLLOUT_ENGINES, TRAINERS, check_plugin


def _installed(group: str) -> Callable[[str], str]:
    """Return a validator for the name of a plugin of `group`."""

    def check(name: str) -> str:
        try:
            return check_plugin(group, name)
        except ValueError as error:
            raise PydanticCustomError("plugin", "{reason}", {"reason": str(error)}) from error

    return check


English = Literal["neutral", "confusion"]
Dtype = Literal["float32", "bfloat16"]
RolloutEngine = Annotated[str, AfterValidator(_installed(ROLLOUT_ENGINES))]
Trainer = Annotated[str, AfterValidator(_installed(TRAINERS))]
AdvantageForm = Annotated[str, AfterValidator(_installed(ADVANTAGES))]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]

MIB = 1 << 20
"""Bytes in what the fields called `…_mib` count."""
GIB = 1 << 30
"""Bytes in what people are told of."""
CANDIDATES_LIMIT = 64
"""Largest candidate set: beyond it the tail of π_old is noise."""


class Section(BaseModel):
    """Frozen; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The policy, and how a prompt becomes its input."""

    path: str
    """Folder or hub name of a Hugging Face causal language model."""
    revision: str | None = None
    """Hub revision; none takes the default branch."""
    dtype: Dtype = "bfloat16"
    """Of the weights in both engines and on the wire; the learner's master weights are float32."""
    max_context: Positive = 2048
    """Most tokens of prompt and answer together."""
    system_prompt: str | None = None
    """Put before every prompt when given."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed to the chat template, e.g. `enable_thinking: false` for Qwen3."""
    allow_pickle: bool = False
    """Also load weights from `.bin` files, which can run code when they are read."""
    trust_remote_code: bool = False
    """Run Python shipped with the model. Leave it off for models you do not know."""


class CurriculumConfig(Section):
    """Sample prompts in proportion to how often prompts like them were confused lately, instead of all of them.

    The groups that are learned from are then not a fair sample of the prompts. Used by TLPO only.
    """

    min_probability: Annotated[float, Field(gt=0, le=1)]
    """Least probability with which a prompt is rolled out; prompts that are left out count as skipped."""


class DataConfig(Section):
    """Where prompts come from."""

    prompts: str
    """`.jsonl`, `.json`, `.json.gz`, `.parquet`, a folder of these, or the name of a hub dataset."""
    languages: tuple[str, ...] = ()
    """Languages to train on; empty takes every language the prompts name."""
    language: str | None = None
    """Language of all prompts, for files without a language field."""
    prompt_field: str = "prompt"
    """Field that holds the prompt; a field `input` beside it is appended (Bactrian-X)."""
    language_field: str = "language"
    """Field that holds a prompt's language."""
    id_field: str = "id"
    """Field that holds a prompt's name; prompts without it are named after file and line."""
    subset: str | None = None
    """Configuration of a hub dataset, e.g. `ko` of Bactrian-X."""
    split: str = "train"
    """Split of a hub dataset."""
    limit: Positive | None = None
    """Most prompts to use."""
    max_characters: Positive = 500
    """Longer prompts are skipped and counted (public code of the paper)."""
    drop_foreign: bool = False
    """Skip prompts that hold characters of other languages (Appendix B)."""
    skip_bad: bool = False
    """Count lines that cannot be read and go on, instead of stopping."""
    shuffle: bool = True
    """Mix prompts by `seed`, so that an update mixes languages and topics."""
    curriculum: CurriculumConfig | None = None
    """Which prompts to roll out, e.g. `data.curriculum={min_probability: 0.1}`; none rolls out all of them."""


class DetectorConfig(Section):
    """What counts as confusion, or as another error that shows at one place of a text."""

    name: str = "language"
    """Which detector: `language` finds words of a wrong language, `terms` forbidden terms; packages may add others."""
    english: English = "neutral"
    """neutral: English is neither target nor confusion; confusion: any English is confusion."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The detector's own, e.g. `passages: off` for `language` (detectors/options.py), `terms: [...]` for `terms`."""


class RolloutConfig(Section):
    """Rollout actors: answers, confusion points, candidate sets, rewards."""

    engine: RolloutEngine = "vllm"
    """vllm, transformers, or one of another package (`tlpo_ray.rollout_engines`). transformers is for
    `stack: local`, and an oracle in tests."""
    num_actors: Positive = 1
    """Rollout actors, each with an engine of its own."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.6
    """Of the sampled answers; candidate sets always come from the untempered distribution."""
    max_new_tokens: Positive = 512
    """Longest answer, in tokens."""
    num_candidates: Annotated[int, Field(ge=2, le=CANDIDATES_LIMIT)] = 16
    """N, the size of the candidate set."""
    selection: Literal["ranked", "multinomial"] = "ranked"
    """The N most probable tokens, or N drawn without replacement."""
    lookahead_tokens: Annotated[int, Field(ge=0, le=16)] = 3
    """k, greedy tokens after each candidate: the most tokens one character can need, minus 1."""
    lease_size: Positive = 64
    """Prompts a rollout actor leases at once."""
    concurrency: Positive = 64
    """Sequences an engine runs at once."""
    kv_cache_mib: Positive | None = None
    """KV cache of an engine, in MiB; none lets vLLM take its share of the GPU. Needed on the CPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of a GPU that must be free when vLLM starts, and that it uses up when `kv_cache_mib` is not set."""
    tensor_parallel: Positive = 1
    """GPUs an engine is spread over."""
    enforce_eager: bool = False
    """Neither compilation nor CUDA graphs: starts a minute sooner, decodes slower. On the CPU it is always so."""
    reproducible: bool = True
    """Seed every answer by run seed, prompt and policy version, so that a run can be repeated token by token."""


class LoraConfig(Section):
    """A low-rank adapter beside frozen weights, W + (alpha / rank) B A: all that is trained, and all that travels."""

    rank: Annotated[int, Field(gt=0, le=512)] = 16
    """Rank of the update."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The adapter is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the linear layers that get one."""


class LearnerConfig(Section):
    """The learner group: TLPO's update."""

    engine: Trainer = "deepspeed"
    """deepspeed, torch, or one of another package (`tlpo_ray.trainers`); torch is for `stack: local`."""
    num_ranks: Positive = 1
    """Learner ranks (data parallel)."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What DeepSpeed shards: 1 optimizer state, 2 gradients too, 3 weights and reference policy too. A rank still loads
    both models into its host's memory first."""
    groups_per_update: Positive = 8
    """Confusion points an update learns from (8 x 16 = 128 candidate tokens)."""
    num_iterations: Positive = 2
    """p: optimizer steps on the same batch; π_old is held fixed over them."""
    micro_batch_size: Positive = 4
    """Contexts a rank puts through the model at once."""
    lr: Annotated[float, Field(gt=0)] = 5e-7
    """Peak learning rate."""
    lr_min: Annotated[float, Field(ge=0)] = 5e-8
    """Learning rate at the end of the cosine."""
    warmup: Share = 0.1
    """Share of the prompts over which the learning rate rises to `lr`; it is never below `lr_min`."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm."""
    clip_low: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """ε below: the ratio counts as at least 1 - clip_low."""
    clip_high: Annotated[float, Field(ge=0)] = 0.2
    """ε above: the ratio counts as at most 1 + clip_high."""
    beta: Annotated[float, Field(ge=0)] = 0.04
    """β, weight of the KL to the reference policy; 0 loads no reference."""
    advantage: AdvantageForm = "tlpo"
    """tlpo: Eq. 5 and 6; unweighted: R - μ; grpo: (R - mean) / standard deviation; or one of another package
    (`tlpo_ray.advantages`)."""
    recompute_old_logprobs: bool = False
    """Take π_old, and with it μ and the advantages, from the learner's own row before the first step, not from the
    rollout actor: exact for groups of an older policy version, whose candidate sets stay what they were."""
    lora: LoraConfig | None = None
    """Train an adapter instead of all weights, e.g. `learner.lora={rank: 16}`. The reference policy is then the model
    without it. object_store only."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @model_validator(mode="after")
    def _schedule_falls(self) -> Self:
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min {self.lr_min} is above lr {self.lr}: lower lr_min")
        return self


class FlowConfig(Section):
    """What travels between actors and learner, and how long anyone waits for it."""

    max_staleness: Annotated[int, Field(ge=0)] = 0
    """Most policy versions a group may be behind the learner; 0 is strictly on-policy."""
    queue_capacity: Positive = 256
    """Groups at which rollout actors get no more prompts until the learner has taken some; at `max_staleness` 0 no more
    prompts go out than an update is likely to need anyway."""
    bucket_mib: Positive = 64
    """Size of a bucket of weights on the wire."""
    weight_transfer: Literal["object_store", "nccl", "gloo"] = "object_store"
    """object_store: each rollout actor loads when it is free, works everywhere. nccl: one broadcast from GPU to GPUs,
    for which all rollout actors stop together. gloo: the same between CPUs."""
    full_sync_interval: Annotated[int, Field(ge=0)] = 0
    """0 sends all weights with every policy version. n sends what has changed bit by bit, and everything again after n
    versions; learner and rollout actors then keep a copy of the weights in the host's memory. object_store only."""
    canary_tolerance: Annotated[float, Field(gt=0)] = 0.1
    """Most nats by which actor and learner may differ after a weight sync (bfloat16 kernels differ; float32: 1e-4)."""
    start_deadline_s: Seconds = 600
    """Until all actors and ranks have loaded their model."""
    rollout_deadline_s: Seconds = 600
    """For one lot of prompts on one rollout actor."""
    update_deadline_s: Seconds = 600
    """For one update of the learner group."""
    checkpoint_deadline_s: Seconds = 3600
    """For the learner group to write or load a checkpoint, or to write the model: an 8B checkpoint has about 100 GB."""
    sync_deadline_s: Seconds = 300
    """For one rollout actor to load a policy version."""
    max_restarts: Annotated[int, Field(ge=0)] = 10
    """Restarts in a run: of all rollout actors together (who is lost after them stays away), and as many of the learner
    group and of the exchange."""
    min_healthy: Positive = 1
    """The run stops when fewer rollout actors than this are left; those that start or load weights count."""
    restart_backoff_s: Annotated[float, Field(ge=0)] = 0.5
    """Before a lost rollout actor starts again; doubled, up to a minute, when it is lost again before it has done any
    work."""
    heartbeat_s: Seconds = 60
    """Silence after which a rollout actor that has work must generate the canary beside it; after two more without an
    answer it is replaced."""


class ClusterConfig(Section):
    """The Ray cluster and what each process asks of it."""

    address: str | None = None
    """Address of a running cluster; none starts one on this machine (or joins the job's)."""
    cpus_per_rollout_actor: Annotated[float, Field(gt=0)] = 1
    """CPU cores that Ray sets aside for a rollout actor."""
    gpus_per_rollout_actor: Annotated[float, Field(ge=0)] = 1
    """GPUs of a rollout actor, or of each of its `rollout.tensor_parallel` workers; less than 1 shares one."""
    cpus_per_learner_rank: Annotated[float, Field(gt=0)] = 1
    """CPU cores that Ray sets aside for a learner rank."""
    gpus_per_learner_rank: Annotated[float, Field(ge=0)] = 1
    """GPUs of a learner rank; less than 1 shares one."""
    rollout_resource: str | None = None
    """Custom resource that the nodes of rollout actors have, e.g. `rollout` (`ray start --resources='{"rollout": 1}'`);
    none lets them be anywhere."""
    learner_resource: str | None = None
    """The same for learner ranks."""
    autoscales: bool = False
    """Start although the cluster is too small: its autoscaler sees what is missing, and nodes have
    `flow.start_deadline_s` to come."""
    colocated: bool = False
    """One rollout actor and one learner rank take turns on one GPU: while the learner learns, the actor's engine has
    its weights in the host's memory and no KV cache. Give each half of a GPU by the two shares above."""
    object_store_mib: Positive | None = None
    """Object store of a cluster started here; none lets Ray choose."""
    dashboard: bool = False
    """Start the Ray dashboard with a cluster started here (on loopback)."""


class CheckpointConfig(Section):
    """What is saved while the run goes on."""

    every_updates: Positive = 100
    """Updates from one checkpoint to the next."""
    keep_last: Positive = 2
    """Checkpoints that are kept; older ones are deleted."""


COLOCATED = {
    "stack": "distributed",
    "rollout.engine": "vllm",
    "rollout.num_actors": 1,
    "rollout.tensor_parallel": 1,
    "learner.num_ranks": 1,
    "flow.max_staleness": 0,
    "flow.weight_transfer": "object_store",
}
"""What `cluster.colocated` needs."""


class RunConfig(Section):
    """Everything about one run."""

    name: str = "tlpo"
    """Name of the run; its folder is `folder`."""
    folder: Path = Path("runs/tlpo")
    """Run folder: config, metrics, experiences, checkpoints, model, result."""
    seed: int = 0
    """Seed of the order of the prompts, of sampling and of training."""
    stack: Literal["distributed", "local"] = "distributed"
    """distributed: Ray, vLLM, DeepSpeed; local: one process, transformers and torch, the same algorithm."""
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Where metrics go beside the run's folder: Weights & Biases, MLflow. Their packages must be installed, and their
    environment variables say who you are (`WANDB_API_KEY`, `MLFLOW_TRACKING_URI`)."""
    model: ModelConfig
    data: DataConfig
    detector: DetectorConfig = DetectorConfig()
    rollout: RolloutConfig = RolloutConfig()
    learner: LearnerConfig = LearnerConfig()
    flow: FlowConfig = FlowConfig()
    cluster: ClusterConfig = ClusterConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.rollout.max_new_tokens >= self.model.max_context:
            raise ValueError(
                f"rollout.max_new_tokens {self.rollout.max_new_tokens} leaves no room for a prompt in "
                f"model.max_context {self.model.max_context}: lower the first or raise the second"
            )
        if self.flow.full_sync_interval and self.flow.weight_transfer != "object_store":
            raise ValueError(
                f"flow.full_sync_interval {self.flow.full_sync_interval} needs flow.weight_transfer object_store, "
                f"it is {self.flow.weight_transfer}: a broadcast always sends all weights"
            )
        if self.cluster.colocated:
            self._take_turns()
        if self.learner.lora is not None and self.flow.weight_transfer != "object_store":
            raise ValueError(
                f"learner.lora needs flow.weight_transfer object_store, it is {self.flow.weight_transfer}: "
                f"adapters are not broadcast"
            )
        if self.stack == "local" and (self.rollout.engine, self.learner.engine) != ("transformers", "torch"):
            raise ValueError(
                f"stack local has rollout.engine {self.rollout.engine} and learner.engine {self.learner.engine}: "
                f"set rollout.engine=transformers and learner.engine=torch, or stack=distributed"
            )
        if self.stack == "distributed" and self.learner.engine == "torch" and self.learner.num_ranks > 1:
            raise ValueError(
                f"learner.engine torch is one process, learner.num_ranks is {self.learner.num_ranks}: "
                f"set learner.engine=deepspeed or learner.num_ranks=1"
            )
        if self.flow.weight_transfer != "object_store" and (self.stack, self.rollout.engine) != ("distributed", "vllm"):
            raise ValueError(
                f"flow.weight_transfer {self.flow.weight_transfer} is between processes and into vLLM, but stack is "
                f"{self.stack} and rollout.engine {self.rollout.engine}: set flow.weight_transfer=object_store"
            )
        if self.learner.num_ranks > self.learner.groups_per_update:
            raise ValueError(
                f"learner.num_ranks {self.learner.num_ranks} exceeds learner.groups_per_update "
                f"{self.learner.groups_per_update}: a rank without a confusion point has nothing to do"
            )
        if self.flow.queue_capacity < self.learner.groups_per_update:
            raise ValueError(
                f"flow.queue_capacity {self.flow.queue_capacity} is below learner.groups_per_update "
                f"{self.learner.groups_per_update}: an update could never fill"
            )
        return self

    def _take_turns(self) -> None:
        """Refuse a colocated run whose two sides could not take turns on one GPU."""
        for key, needed in COLOCATED.items():
            section, _, name = key.rpartition(".")
            found = getattr(getattr(self, section) if section else self, name)
            if found != needed:
                raise ValueError(f"cluster.colocated needs {key} {needed}, it is {found}: set {key}={needed}")
