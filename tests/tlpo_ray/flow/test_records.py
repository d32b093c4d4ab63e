"""Candidate groups on the wire."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlpo_ray.flow.records import SCHEMA, CandidateGroup, decode, decode_table, encode, from_batch, readable

int32 = st.integers(-(2**31), 2**31 - 1)
float32 = st.floats(width=32, allow_nan=False)
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def groups(draw: st.DrawFn) -> CandidateGroup:
    n = draw(st.integers(2, 16))
    return CandidateGroup(
        prompt_index=draw(st.integers(0, 2**40)),
        prompt_id=draw(plain),
        language=draw(st.sampled_from(["ko", "zh", "ja", "ar"])),
        context_ids=np.array(draw(st.lists(int32, max_size=50)), np.int32),
        prompt_length=draw(st.integers(0, 50)),
        candidate_ids=np.array(draw(st.lists(int32, min_size=n, max_size=n)), np.int32),
        old_logp=np.array(draw(st.lists(float32, min_size=n, max_size=n)), np.float32),
        rewards=np.array(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=n, max_size=n)), np.float32),
        sampling_version=draw(st.integers(0, 10**6)),
        detector_version=draw(plain),
        response=draw(plain),
        span_start=draw(st.integers(0, 100)),
        span_end=draw(st.integers(0, 100)),
        span_kind=draw(plain),
        lookaheads=tuple(draw(st.lists(plain, min_size=n, max_size=n))),
    )


def same(one: CandidateGroup, other: CandidateGroup) -> bool:
    def plain_values(group: CandidateGroup) -> list[object]:
        values = [getattr(group, field.name) for field in SCHEMA]
        return [(value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value for value in values]

    return plain_values(one) == plain_values(other)


@settings(max_examples=100)
@given(st.lists(groups(), max_size=5))
def test_what_is_decoded_is_what_was_encoded(sent: list[CandidateGroup]) -> None:
    received = decode(encode(sent))
    assert len(received) == len(sent)
    assert all(same(one, other) for one, other in zip(sent, received, strict=True))


@settings(max_examples=25)
@given(st.lists(groups(), min_size=1, max_size=3))
def test_any_parquet_reader_opens_experiences(sent: list[CandidateGroup]) -> None:
    file = io.BytesIO()
    pq.write_table(decode_table(encode(sent)), file)
    received = from_batch(pq.read_table(file).cast(SCHEMA))
    assert all(same(one, other) for one, other in zip(sent, received, strict=True))


@settings(max_examples=100)
@given(st.lists(groups(), max_size=2), st.data())
def test_a_damaged_stream_is_refused_or_still_well_formed(sent: list[CandidateGroup], data: st.DataObject) -> None:
    payload = encode(sent)
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    try:
        received = decode(cut)
    except ValueError as error:
        assert "candidate groups" in str(error)
    else:  # only the end-of-stream mark was cut away
        assert len(received) in (0, len(sent))


def test_other_columns_are_refused() -> None:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"a": [1]})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="expected columns"):
        decode(sink.getvalue().to_pybytes())


def test_undecoded_bytes_keep_the_span_in_place() -> None:
    text = "ab" + b"\xea\xb0".decode("utf-8", "surrogateescape") + "є"
    group = a_group(text)
    (received,) = decode(encode([group]))
    assert received.response[group.span_start] == "є"
    assert received.response == "ab\ufffd\ufffdє"
    assert readable(text) == "ab\ufffdє"


def a_group(response: str) -> CandidateGroup:
    ids, values = np.arange(2, dtype=np.int32), np.ones(2, np.float32)
    return CandidateGroup(
        prompt_index=0, prompt_id="", language="ko", context_ids=ids, prompt_length=1, candidate_ids=ids,
        old_logp=values, rewards=values, sampling_version=0, detector_version="",
        response=response, span_start=len(response) - 1, span_end=len(response), span_kind="Cyrillic",
        lookaheads=("", ""),
    )  # fmt: skip


@settings(max_examples=25)
@given(st.lists(groups(), max_size=3))
def test_streams_of_earlier_releases_are_read(sent: list[CandidateGroup]) -> None:
    table = decode_table(encode(sent))
    names = ["span_script" if name == "span_kind" else name for name in table.column_names]
    versions = pa.array([group.sampling_version for group in sent], pa.int64())
    field = pa.field("probing_version", pa.int64(), nullable=False)
    old = table.rename_columns(names).add_column(names.index("sampling_version") + 1, field, versions)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, old.schema) as writer:
        writer.write_table(old)
    received = decode(sink.getvalue().to_pybytes())
    assert all(same(one, other) for one, other in zip(sent, received, strict=True)) and len(received) == len(sent)
