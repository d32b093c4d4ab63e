"""What travels between processes: prompts out, candidate groups and outcomes back.

Records are frozen dataclasses inside a process and Arrow between processes and on disk, so that a run's
experiences open in any Parquet reader. Axis letters: L context tokens, N candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.errors import RecordError, first_line

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


class Outcome(StrEnum):
    """How one prompt ended. Every prompt of a run ends in exactly one of these."""

    CLEAN = "clean"  # the answer had no confusion: no signal
    CONFUSED = "confused"  # a candidate group was made and learned from
    UNINFORMATIVE = "uninformative"  # all candidates had the same reward: Z = 0
    STALE = "stale"  # the group was older than max_staleness allows
    SKIPPED = "skipped"  # never rolled out; the reason says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question to the policy.

    Example: ``Prompt(index=7, id="ko-0007", language="ko", text="일본의 통화는 무엇입니까?")``
    """

    index: int
    """Position in the run's order, from 0: ties between equal groups are broken by it."""
    id: str
    language: str
    text: str


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
    """How many of `context_ids` are the prompt."""
    candidate_ids: Int32
    """[N] the candidate set T, most probable first."""
    old_logp: Float32
    """[N] natural log of π_old(t_i | x, y_<c), from the untempered distribution."""
    rewards: Float32
    """[N] +1 or -1: whether t_i with its lookahead leads to confusion."""
    sampling_version: int
    """Policy version that sampled the answer."""
    probing_version: int
    """Policy version that `old_logp` comes from."""
    detector_version: str
    response: str
    """The sampled answer up to where generation stopped, for people."""
    span_start: int
    """Code points of `response`: the first confused character."""
    span_end: int
    span_script: str
    lookaheads: tuple[str, ...]
    """[N] text of each candidate with its greedy continuation, for people."""
    actor: str = ""
    """Rollout actor that made it; `rollout-2.1` is the second life of the third one."""

    @property
    def informative(self) -> bool:
        """False when all rewards are equal: then Z = 0 and every advantage is 0 (Eq. 6)."""
        return bool(np.any(self.rewards != self.rewards[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptResult:
    """What became of one leased prompt on a rollout actor."""

    prompt_index: int
    outcome: Outcome
    reason: str = ""
    """Why a prompt was skipped; empty for every other outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReport:
    """One finished lot of leased prompts: an outcome for each, and the candidate groups."""

    version: int
    results: tuple[PromptResult, ...]
    groups: tuple[CandidateGroup, ...]
    """Informative groups only; as many as `results` with outcome CONFUSED."""
    tokens_generated: int
    """Sampled tokens, those of lookaheads left out."""
    tokens_discarded: int
    """Of these, tokens sampled beyond the first confused character before the abort took effect."""
    tokens_clean: int
    """Of these, tokens of answers without confusion, which are whole."""
    by_language: Mapping[str, tuple[int, int]]
    """Answers sampled, and those of them without confusion."""
    kv_use: float
    """Largest share of the engine's KV cache that was in use."""

    def counts(self) -> RolloutStats:
        """What remains of it when its results and groups have gone their way."""
        return RolloutStats(
            sampled=sum(result.outcome is not Outcome.SKIPPED for result in self.results),
            clean=sum(result.outcome is Outcome.CLEAN for result in self.results),
            tokens_generated=self.tokens_generated,
            tokens_discarded=self.tokens_discarded,
            tokens_clean=self.tokens_clean,
            by_language=self.by_language,
            kv_use=self.kv_use,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStats:
    """A finished lot in numbers; those of `RolloutReport`."""

    sampled: int
    """Prompts that were answered."""
    clean: int
    """Of these, answers without confusion."""
    tokens_generated: int
    tokens_discarded: int
    tokens_clean: int
    by_language: Mapping[str, tuple[int, int]]
    kv_use: float


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
        pa.field("probing_version", pa.int64(), nullable=False),
        pa.field("detector_version", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("span_start", pa.int32(), nullable=False),
        pa.field("span_end", pa.int32(), nullable=False),
        pa.field("span_script", pa.string(), nullable=False),
        pa.field("lookaheads", pa.list_(pa.string()), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
    ],
    metadata={"tlpo_record": "candidate_group", "format": "2"},
)

_INT_ARRAYS = ("context_ids", "candidate_ids")
_FLOAT_ARRAYS = ("old_logp", "rewards")


def to_batch(groups: Sequence[CandidateGroup]) -> pa.RecordBatch:
    """Groups as one Arrow record batch. Lone surrogates (undecoded bytes) become U+FFFD."""
    columns = [[_plain(getattr(group, field.name), field.name) for group in groups] for field in SCHEMA]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def from_batch(batch: pa.RecordBatch | pa.Table) -> list[CandidateGroup]:
    """The groups of an Arrow batch or table.

    Raises:
        RecordError: its columns are not those of a candidate group.
    """
    _check_columns(batch.schema)
    return [_group(row) for row in batch.to_pylist()]


def encode(groups: Sequence[CandidateGroup]) -> bytes:
    """Groups as an Arrow IPC stream: what the wire carries."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(to_batch(groups))
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def decode(payload: bytes) -> list[CandidateGroup]:
    """Inverse of `encode`.

    Raises:
        RecordError: the bytes are not an Arrow stream of candidate groups.
    """
    return from_batch(decode_table(payload))


def encode_prompts(prompts: Sequence[Prompt]) -> bytes:
    """Prompts as JSON."""
    return json.dumps([[prompt.index, prompt.id, prompt.language, prompt.text] for prompt in prompts]).encode()


def decode_prompts(payload: bytes) -> list[Prompt]:
    """Inverse of `encode_prompts`.

    Raises:
        RecordError: the bytes are something else.
    """
    try:
        rows = json.loads(payload)
        return [Prompt(index=int(i), id=str(n), language=str(lang), text=str(text)) for i, n, lang, text in rows]
    except (ValueError, TypeError) as error:
        raise RecordError(f"not prompts: {error}") from error


def encode_results(results: Sequence[PromptResult]) -> bytes:
    """Results as JSON."""
    return json.dumps([[one.prompt_index, one.outcome.value, one.reason] for one in results]).encode()


def decode_results(payload: bytes) -> list[PromptResult]:
    """Inverse of `encode_results`.

    Raises:
        RecordError: the bytes are something else.
    """
    try:
        rows = json.loads(payload)
        return [PromptResult(prompt_index=int(i), outcome=Outcome(name), reason=str(why)) for i, name, why in rows]
    except (ValueError, TypeError) as error:
        raise RecordError(f"not results of prompts: {error}") from error


def decode_table(payload: bytes) -> pa.Table:
    """An Arrow stream of candidate groups as a table, without building the groups.

    Raises:
        RecordError: the bytes are not an Arrow stream of candidate groups.
    """
    try:
        with pa.ipc.open_stream(payload) as reader:
            table = reader.read_all()
        table.validate(full=True)  # else a flipped bit in an offset reads beyond the payload
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"not an Arrow stream of candidate groups: {first_line(error)}") from error
    _check_columns(table.schema)
    return table


def read_experiences(folder: Path) -> list[CandidateGroup]:
    """The groups of all Parquet files in a run's `experiences`, in the order in which they were learned from.

    Raises:
        RecordError: a file holds something else.
    """
    return [group for file in sorted(folder.glob("*.parquet")) for group in from_batch(pq.read_table(file))]


def _check_columns(schema: pa.Schema) -> None:
    if not schema.equals(SCHEMA, check_metadata=False):
        raise RecordError(f"not candidate groups: expected columns {SCHEMA.names}, found {schema.names}")


def readable(text: str) -> str:
    """Text without lone surrogates, which stand for undecoded bytes: each becomes U+FFFD."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _plain(value: object, name: str) -> object:
    if name == "response":
        return _same_length(str(value))
    if name == "lookaheads":
        assert isinstance(value, tuple)
        return [readable(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _same_length(text: str) -> str:
    # One U+FFFD a surrogate, so that span_start and span_end still point at the same characters.
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _group(row: dict[str, object]) -> CandidateGroup:
    arrays: dict[str, object] = {name: np.asarray(row[name], np.int32) for name in _INT_ARRAYS}
    arrays |= {name: np.asarray(row[name], np.float32) for name in _FLOAT_ARRAYS}
    lookaheads = row["lookaheads"]
    assert isinstance(lookaheads, list)
    return CandidateGroup(**(row | arrays | {"lookaheads": tuple(lookaheads)}))  # type: ignore[arg-type]
