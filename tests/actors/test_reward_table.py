"""Every row of the manual's table "Rewards of candidates", on a real engine whose weights make the model say it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from actors.engine import EngineFactory, EngineOptions, TokenEngine
from actors.hf_engine import TransformersEngine
from actors.vllm_engine import VLLMEngine
from actors.worker import RolloutWorker
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import CandidateGroup, Prompt

PAGE = Path(__file__).parents[2] / "docs" / "how-it-works.md"
ROWS, MAX_CONTEXT = 400, 16
"""Tokens of the model, of which the tokenizer has fewer, and its longest context."""
SPECIAL = ["<|end|>", "<|eot|>", "<|start|>"]
"""Special tokens. The tokenizer's end of text is the first; the model's configuration names the second."""
STOP_STRING = "###"
QUESTION, CONFUSED, CLEAN = "?", " гривня", "은"
"""The prompt, the token that is sampled at c, and a candidate besides that one and the row's."""
AT_THE_END = "text at the end of the context: no room for a lookahead"
ANOTHER_ID = "another id of the same text: judged by its own lookahead"
KINDS = (
    "text of the language",
    "text that is confused by itself: no lookahead",
    "text that is confused within the lookahead",
    "text that is confused beyond the lookahead",
    "part of an exempt word that began on the left",
    "first byte of a character of the language",
    "first byte of a character of another language",
    "first byte of a character that remains unfinished",
    "last byte of a character that began on the left",
    "run of spaces, one added token",
    ANOTHER_ID,
    "added token that decoding prints",
    "special token that does not end the answer",
    "id that the tokenizer lacks (padded weights)",
    "end-of-text token, any of the model's",
    "text whose lookahead reaches an end-of-text token",
    "text that completes a stop string",
    "text that is confused before a stop string",
    "text whose lookahead reaches a stop string",
    AT_THE_END,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table."""

    left: tuple[str, ...]
    """Tokens of the answer before c."""
    chain: tuple[str, ...]
    """The candidate, and what the model continues it with."""
    judged: str
    reward: float


def table() -> dict[str, Row]:
    """Return the rows of the manual's table by their first cell."""
    section = PAGE.read_text(encoding="utf-8").split("## Rewards of candidates\n")[1].split("\n##")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    rows: dict[str, Row] = {}
    for line in lines:
        # Cells are separated by bars that are not escaped.
        kind, left, chain, judged, reward = (
            cell[1:-1].replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        )
        assert kind not in rows
        rows[kind] = Row(
            left=tuple(re.findall(r"<0x..>|(?:(?!<0x).)+", left.strip("`"))),
            chain=tuple(re.findall("`(.+?)`", chain)),
            judged="" if judged == "nothing" else judged.strip("`"),
            reward={"+1": 1.0, "−1": -1.0}[reward],
        )
    return rows


TABLE = table()


def pieces() -> list[str]:
    """Return the texts that need a token: those of the table, and of every answer."""
    texts = [text for row in TABLE.values() for text in (*row.left, *row.chain)]
    texts = [text.replace("▁", " ") for text in texts if not re.match(r"<0x|<\||<think>|id ", text)]
    return sorted({*texts, QUESTION, CONFUSED, CLEAN})


def spelled(content: bytes) -> str:
    """Return bytes as byte-level vocabularies spell them."""
    return "".join(letter for byte in content for letter in BYTE_LETTERS[byte])


def byte_letters() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(rest)}


BYTE_LETTERS = byte_letters()


def byte_level() -> Any:
    """Return a byte-level vocabulary with a token for each text of the table."""
    vocabulary = [*map(spelled, (bytes([byte]) for byte in range(256)))]
    vocabulary += [piece for piece in map(lambda text: spelled(text.encode()), pieces()) if piece not in vocabulary]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(vocabulary)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return with_added(backend)


def sentence_piece() -> Any:
    """Return a vocabulary like Gemma's: with byte tokens, and runs of spaces that are added tokens."""
    vocabulary = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary += [text.replace(" ", "▁") for text in pieces() if text.strip() or len(text) == 1]
    index = {piece: number for number, piece in enumerate(vocabulary)}
    backend = Tokenizer(models.BPE(index, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return with_added(backend, ["▁▁▁▁"])


def with_added(backend: Tokenizer, added: Sequence[str] = ()) -> Any:
    backend.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    # The literal space makes it another token than the vocabulary's own, with the same text.
    printed = ["<think>", f"{TABLE[ANOTHER_ID].chain[0]}", *added]
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in printed])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPECIAL[0])


class World:
    """A real model of one vocabulary; its weights are set for each row."""

    def __init__(self, tokenizer: Any, folder: Path, engine: EngineFactory) -> None:
        self._tokenizer = tokenizer
        tokenizer.save_pretrained(folder)
        config = LlamaConfig(
            vocab_size=ROWS, hidden_size=ROWS, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            head_dim=32, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(SPECIAL[1]), dtype="float32",
        )  # fmt: skip
        model: Any = LlamaForCausalLM(config)
        # One dimension per token, and layers that add nothing: the next token depends on the last one alone.
        model.model.embed_tokens.weight.data = torch.eye(ROWS)
        for layer in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            layer.weight.data.zero_()
        model.save_pretrained(folder)
        self._weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        self._model = ModelConfig(
            path=str(folder), dtype="float32", max_context=MAX_CONTEXT, stop_strings=(STOP_STRING,)
        )
        self._rollout = RolloutConfig(num_candidates=4, lookahead_tokens=3, max_new_tokens=8, kv_cache_mib=64)
        self.engine: TokenEngine = engine(self._model, self._rollout, EngineOptions())

    def ids(self, text: str) -> list[int]:
        """Return the tokens with this text, the vocabulary's own first."""
        if text.startswith("id "):
            return [int(text.removeprefix("id "))]
        if text.startswith("<0x"):
            text = text if text in self._tokenizer.get_vocab() else BYTE_LETTERS[int(text[3:5], 16)]
            return [self._tokenizer.get_vocab()[text]]
        text = text.replace("▁", " ")
        added = self._tokenizer.get_added_vocab()
        own = {piece: index for piece, index in self._tokenizer.get_vocab().items() if piece not in added}
        spelling = spelled(text.encode()) if "<unk>" not in own else text.replace(" ", "▁")
        found = dict.fromkeys((own.get(spelling), added.get(spelling), added.get(text)))
        return [index for index in found if index is not None]

    def group(self, row: Row, question: str) -> tuple[CandidateGroup, list[int]]:
        """Return what a rollout of the row makes, and the ids of the row's candidate.

        The answer is the left context with `CONFUSED` behind it. The candidates are that token, those of the row, and
        `CLEAN`; each is continued as the row has it.
        """
        (prompt,), candidates = self.ids(QUESTION), self.ids(row.chain[0])
        left = [self.ids(text)[0] for text in row.left]
        logits_VV = torch.zeros(ROWS, ROWS)
        """[next token, last token]"""
        for last, following in zip([prompt, *left], left, strict=False):
            logits_VV[following, last] = 100
        for rank, token in enumerate([*self.ids(CONFUSED), *candidates, *self.ids(CLEAN)]):
            logits_VV[token, left[-1]] = 200 - 30 * rank
        for candidate in candidates:
            chain = [candidate, *(self.ids(text)[0] for text in row.chain[1:])]
            for last, following in zip(chain, [*chain[1:], *self.ids(SPECIAL[0])], strict=True):
                logits_VV[following, last] = 100
        for token in (*self.ids(CONFUSED), *self.ids(CLEAN)):
            logits_VV[self.ids(SPECIAL[0])[0], token] = 100
        # The root mean square of an embedding is 1 / sqrt(V), and normalisation makes it 1.
        self._weights["lm_head.weight"] = (logits_VV / ROWS**0.5).numpy()
        self.engine.load_weights([[*self._weights.items()]], version=0)
        worker = RolloutWorker(self.engine, self._model, self._rollout, DetectorConfig(), seed=0)
        (group,) = worker.run_batch([Prompt(index=0, id="p", language="ko", text=question)]).groups
        assert group.context_ids.tolist() == [prompt] * len(question) + left
        return group, candidates


@pytest.fixture(
    scope="module",
    params=[
        (byte_level, TransformersEngine),
        (sentence_piece, TransformersEngine),
        pytest.param((sentence_piece, VLLMEngine), marks=pytest.mark.slow),
    ],
    ids=["byte_level", "sentence_piece", "vllm"],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    vocabulary, engine = request.param
    world = World(vocabulary(), tmp_path_factory.mktemp("model"), engine)
    yield world
    world.engine.close()


def test_the_table_has_these_rows() -> None:
    assert sorted(TABLE) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_a_rollout_makes(kind: str, world: World) -> None:
    row = TABLE[kind]
    question = QUESTION * (MAX_CONTEXT - len(row.left) - 1 if kind == AT_THE_END else 1)
    group, candidates = world.group(row, question)
    assert len(candidates) == (2 if kind == ANOTHER_ID else 1)
    for candidate in candidates:
        (at,) = np.flatnonzero(group.candidate_ids == candidate)
        assert group.lookaheads[at] == row.judged
        assert group.rewards[at] == row.reward
