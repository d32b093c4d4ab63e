"""Records that travel between processes: prompts out, candidate groups and outcomes back.

Records are frozen dataclasses inside a process and Arrow between processes and on disk, so that any Parquet reader
opens a run's experiences. Shape suffixes: L context tokens, N candidates.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.errors import RecordError, first_line
from tlpo_ray.flow.conversation import Conversation

CLEAN_REWARD, CONFUSED_REWARD = 1.0, -1.0
"""Rewards R(t_i) of a candidate that stays in the target language and of one that leads to confusion."""
UNDECIDED_REWARD = 0.0
"""Reward of a candidate whose lookahead has decided neither: it has no say in its group (`rollout.lookahead=auto`)."""
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


class Outcome(StrEnum):
    """Outcome of one prompt. Every prompt of a run ends in exactly one of these."""

    CLEAN = "clean"  # the answer had no confusion: no signal
    CONFUSED = "confused"  # a candidate group was made and learned from
    TRUNCATED = "truncated"  # cut short before any confusion: no signal (rollout.truncation)
    UNINFORMATIVE = "uninformative"  # all candidates had the same reward: Z = 0
    STALE = "stale"  # the group was older than max_staleness allows
    SKIPPED = "skipped"  # never rolled out; the reason says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt of a run.

    Example: ``Prompt(index=7, id="ko-0007", language="ko", text="일본의 통화는 무엇입니까?")``
    """

    index: int
    """Position in the run's order, from 0. Breaks ties between equal groups."""
    id: str
    language: str
    text: str
    """What is asked; of a conversation, the text of the user's last message."""
    conversation: Conversation | None = None
    """The conversation that the prompt is; None for a prompt that is a single text."""

    @property
    def content(self) -> str | Conversation:
        """What the model is given: the conversation, or the text."""
        return self.text if self.conversation is None else self.conversation

    @property
    def key(self) -> str:
        """Everything that is asked, as one text: equal prompts have equal keys."""
        return self.text if self.conversation is None else self.conversation.dumps()

    def to_row(self) -> dict[str, object]:
        """Return the line of a prompt file that this prompt is read from."""
        asked = {"prompt": self.text} if self.conversation is None else self.conversation.to_json()
        return {"id": self.id, "language": self.language, **asked}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], index: int) -> Self:
        """Return the prompt whose `to_row` is given.

        Raises:
            KeyError, TypeError: The row is something else.
        """
        conversation = Conversation.from_json(row) if "messages" in row else None
        text = row["prompt"] if conversation is None else conversation.question
        return cls(index=index, id=row["id"], language=row["language"], text=text, conversation=conversation)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateGroup:
    """One confusion point with its candidate set: the unit of learning.

    Example: 23 context tokens of which 15 are the prompt, 16 candidates of which 3 lead to confusion.
    """

    prompt_index: int
    prompt_id: str
    language: str
    context_ids: Int32
    """[L] prompt tokens followed by y_<c, the answer before the confusion point."""
    prompt_length: int
    """Number of `context_ids` that are the prompt."""
    candidate_ids: Int32
    """[N] candidate set T, most probable first."""
    old_logp: Float32
    """[N] natural log of π_old(t_i | x, y_<c), from the untempered distribution."""
    rewards: Float32
    """[N] -1 if t_i with its lookahead leads to confusion, 0 if that is undecided, else +1."""
    sampling_version: int
    """Policy version that sampled the answer and that `old_logp` comes from."""
    detector_version: str
    response: str
    """Sampled answer up to where generation stopped, for people."""
    span_start: int
    """Index of the first confused character in code points of `response`."""
    span_end: int
    """Index one past the last confused character."""
    span_kind: str
    """Kind of error by the detector's word, e.g. the script of the confused characters."""
    lookaheads: tuple[str, ...]
    """[N] text of each candidate with its greedy continuation, for people."""
    actor: str = ""
    """Rollout actor that made it; `rollout-2.1` is the third actor after its first restart."""

    @property
    def informative(self) -> bool:
        """False when all candidates that are decided have the same reward: then every advantage is 0 (Eq. 6)."""
        decided = self.rewards[self.rewards != UNDECIDED_REWARD]
        return bool(np.any(decided != decided[:1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptResult:
    """Outcome of one leased prompt on a rollout actor."""

    prompt_index: int
    outcome: Outcome
    reason: str = ""
    """Reason for skipping a prompt; empty for every other outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStats:
    """Counts of finished rollouts; `+` adds those of several batches up. All zero by default."""

    sampled: int = 0
    """Answers, without those that were to be cut short (`rollout.truncation`)."""
    clean: int = 0
    """Answers among them without confusion."""
    tokens_generated: int = 0
    """Sampled tokens of all answers, not counting lookaheads."""
    tokens_discarded: int = 0
    """Tokens among them that were sampled beyond the first confused character before the abort took effect."""
    tokens_clean: int = 0
    """Tokens among them that belong to the clean answers counted above, which are complete."""
    by_language: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """(answers sampled, answers without confusion) by language."""
    confused_in: Mapping[str, int] = field(default_factory=dict)
    """Answers with confusion by the part that it begins in; empty without `detector.segments`."""
    kv_cache_usage: float = 0.0
    """Largest share of an engine's KV cache that was in use, 0 to 1."""

    def __add__(self, other: RolloutStats) -> RolloutStats:
        languages = {**self.by_language, **other.by_language}
        mine, theirs = self.by_language, other.by_language
        zero = (0, 0)
        return RolloutStats(
            sampled=self.sampled + other.sampled,
            clean=self.clean + other.clean,
            tokens_generated=self.tokens_generated + other.tokens_generated,
            tokens_discarded=self.tokens_discarded + other.tokens_discarded,
            tokens_clean=self.tokens_clean + other.tokens_clean,
            by_language={
                name: (
                    mine.get(name, zero)[0] + theirs.get(name, zero)[0],
                    mine.get(name, zero)[1] + theirs.get(name, zero)[1],
                )
                for name in languages
            },
            confused_in=dict(Counter(self.confused_in) + Counter(other.confused_in)),
            kv_cache_usage=max(self.kv_cache_usage, other.kv_cache_usage),
        )

    def with_kv_cache_usage(self, usage: float) -> RolloutStats:
        """Return the same counts with another maximum: it is reported per update, the counts per run."""
        return replace(self, kv_cache_usage=usage)

    @property
    def rpr(self) -> float:
        """Response pass rate of the sampled answers (Eq. 8); 1 before the first."""
        return self.clean / self.sampled if self.sampled else 1.0

    @property
    def confusion_rates(self) -> dict[str, float]:
        """Share of the sampled answers that are confused, by language."""
        return {name: 1 - clean / sampled for name, (sampled, clean) in sorted(self.by_language.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReport:
    """One finished batch of leased prompts: an outcome for each, the candidate groups, and counts."""

    results: tuple[PromptResult, ...]
    groups: tuple[CandidateGroup, ...]
    """Informative groups only; as many as there are `results` with outcome CONFUSED."""
    stats: RolloutStats


SCHEMA = pa.schema(
    [
        pa.field("prompt_index", pa.int64(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("context_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("prompt_length", pa.int32(), nullable=False),
        pa.field("candidate_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("old_logp", pa.list_(pa.float32()), nullable=False),
        pa.field("rewards", pa.list_(pa.float32()), nullable=False),
        pa.field("sampling_version", pa.int64(), nullable=False),
        pa.field("detector_version", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("span_start", pa.int32(), nullable=False),
        pa.field("span_end", pa.int32(), nullable=False),
        pa.field("span_kind", pa.string(), nullable=False),
        pa.field("lookaheads", pa.list_(pa.string()), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
    ],
    metadata={"tlpo_record": "candidate_group", "format": "3"},
)

_RENAMED_COLUMNS = {"span_script": "span_kind"}
_DROPPED_COLUMNS = ("probing_version",)
"""Differences of format 2, which earlier releases wrote; files and journals in it are still read."""
_INT_ARRAYS = ("context_ids", "candidate_ids")
_FLOAT_ARRAYS = ("old_logp", "rewards")


def to_batch(groups: Sequence[CandidateGroup]) -> pa.RecordBatch:
    """Return groups as one Arrow record batch. Lone surrogates (undecoded bytes) become U+FFFD."""
    columns = [[_plain(getattr(group, field.name), field.name) for group in groups] for field in SCHEMA]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def from_batch(batch: pa.RecordBatch | pa.Table) -> list[CandidateGroup]:
    """Return the groups of an Arrow batch or table.

    Raises:
        RecordError: Its columns are not those of a candidate group.
    """
    return [_group(row) for row in current_table(batch).to_pylist()]


def encode(groups: Sequence[CandidateGroup]) -> bytes:
    """Return groups as an Arrow IPC stream, the wire format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(to_batch(groups))
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def decode(payload: bytes) -> list[CandidateGroup]:
    """Return the groups that `encode` was given.

    Raises:
        RecordError: The bytes are not an Arrow stream of candidate groups.
    """
    return from_batch(decode_table(payload))


def encode_prompts(prompts: Sequence[Prompt]) -> bytes:
    """Return prompts as JSON: one list per prompt, which ends with the conversation if there is one."""
    rows: list[list[object]] = []
    for prompt in prompts:
        conversation = [] if prompt.conversation is None else [prompt.conversation.to_json()]
        rows.append([prompt.index, prompt.id, prompt.language, prompt.text, *conversation])
    return json.dumps(rows).encode()


def decode_prompts(payload: bytes) -> list[Prompt]:
    """Return the prompts that `encode_prompts` was given.

    Raises:
        RecordError: The bytes are something else.
    """
    try:
        return [_prompt(*row) for row in json.loads(payload)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"not prompts: {error}") from error


def encode_results(results: Sequence[PromptResult]) -> bytes:
    """Return results as JSON."""
    return json.dumps([[one.prompt_index, one.outcome.value, one.reason] for one in results]).encode()


def decode_results(payload: bytes) -> list[PromptResult]:
    """Return the results that `encode_results` was given.

    Raises:
        RecordError: The bytes are something else.
    """
    try:
        rows = json.loads(payload)
        return [PromptResult(prompt_index=int(i), outcome=Outcome(name), reason=str(why)) for i, name, why in rows]
    except (ValueError, TypeError) as error:
        raise RecordError(f"not results of prompts: {error}") from error


def decode_table(payload: bytes) -> pa.Table:
    """Return an Arrow stream of candidate groups as a table, without building the groups.

    Raises:
        RecordError: The bytes are not an Arrow stream of candidate groups.
    """
    try:
        with pa.ipc.open_stream(payload) as reader:
            table = reader.read_all()
        table.validate(full=True)  # otherwise a flipped bit in an offset would read beyond the payload
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"not an Arrow stream of candidate groups: {first_line(error)}") from error
    return current_table(table)


def current_table(rows: pa.RecordBatch | pa.Table) -> pa.Table:
    """Return rows of this or an earlier format with the columns of this one.

    Raises:
        RecordError: The columns are not those of a candidate group.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    dropped = [name for name in _DROPPED_COLUMNS if name in table.column_names]
    if dropped:
        table = table.drop_columns(dropped)
    table = table.rename_columns([_RENAMED_COLUMNS.get(name, name) for name in table.column_names])
    if not table.schema.equals(SCHEMA, check_metadata=False):
        raise RecordError(f"not candidate groups: expected columns {SCHEMA.names}, found {rows.schema.names}")
    return table.replace_schema_metadata(SCHEMA.metadata)


def read_experiences(folder: Path) -> list[CandidateGroup]:
    """Return the groups of all Parquet files in a run's `experiences`, in the order in which they were learned from.

    Raises:
        RecordError: A file holds something else.
    """
    return [group for file in sorted(folder.glob("*.parquet")) for group in from_batch(pq.read_table(file))]


def readable(text: str) -> str:
    """Return text without lone surrogates, which represent undecoded bytes: each becomes U+FFFD."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _prompt(index: Any, name: Any, language: Any, text: Any, conversation: Any = None) -> Prompt:
    return Prompt(
        index=int(index), id=str(name), language=str(language), text=str(text),
        conversation=None if conversation is None else Conversation.from_json(conversation),
    )  # fmt: skip


def _plain(value: object, name: str) -> object:
    if name == "response":
        return _same_length(str(value))
    if name == "lookaheads":
        assert isinstance(value, tuple)
        return [readable(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _same_length(text: str) -> str:
    # One U+FFFD per surrogate, so that span_start and span_end still point at the same characters.
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _group(row: dict[str, object]) -> CandidateGroup:
    arrays: dict[str, object] = {name: np.asarray(row[name], np.int32) for name in _INT_ARRAYS}
    arrays |= {name: np.asarray(row[name], np.float32) for name in _FLOAT_ARRAYS}
    lookaheads = row["lookaheads"]
    assert isinstance(lookaheads, list)
    return CandidateGroup(**(row | arrays | {"lookaheads": tuple(lookaheads)}))  # type: ignore[arg-type]
