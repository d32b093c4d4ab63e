"""Published vocabularies: the bytes of every token, and the confusion point of foreign words in real sentences."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from actors.confusion import StreamingDetector, confusion_point
from actors.token_bytes import GrowingText, TokenBytes
from tests.real.insertions import OWN, Insertion, detector, insertions
from tests.real.vocabularies import VOCABULARIES, marked
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.tokenizer import load_tokenizer

pytestmark = [pytest.mark.real, pytest.mark.slow]

INSERTIONS = 20_400
LONGEST_PIECE = 24
"""Bytes of the longest token that is drawn at random; those beyond it are mostly runs of spaces."""
all_vocabularies = pytest.mark.parametrize("name", marked(*VOCABULARIES))


class Published:
    """A published tokenizer, its token bytes, and the ways in which a model could sample a text with it."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = load_tokenizer(ModelConfig(path=str(folder)))
        self.table = TokenBytes(self.tokenizer)
        self._ids: defaultdict[bytes, list[int]] = defaultdict(list)
        for token_id in range(len(self.tokenizer)):
            self._ids[self.table[token_id]].append(token_id)

    def encode(self, text: str) -> list[int]:
        """Return the tokens that the tokenizer chooses for a text."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the tokenizer's own text of a sequence of tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def as_encoded(self, insertion: Insertion) -> list[int]:
        """Return the tokens of the complete text."""
        return self.encode(insertion.text)

    def in_pieces(self, insertion: Insertion) -> list[int]:
        """Return tokens of the three pieces: a model samples the word after it has sampled what precedes it."""
        return [*self.encode(insertion.before), *self.encode(insertion.word), *self.encode(insertion.after)]

    def bytewise(self, insertion: Insertion) -> list[int]:
        """Return the foreign word in tokens of single bytes, to which vocabularies fall back."""
        word = [self._ids[bytes([byte])][0] for byte in insertion.word.encode()]
        return [*self.encode(insertion.before), *word, *self.encode(insertion.after)]

    def at_random(self, insertion: Insertion) -> list[int]:
        """Return any tokens that make up the text: they may end inside a character, and reach into the foreign word."""
        generator = random.Random(insertion.text)
        content, ids, start = insertion.text.encode(), list[int](), 0
        while start < len(content):
            pieces = (content[start : start + length] for length in range(1, LONGEST_PIECE + 1))
            known = [piece for piece in pieces if piece in self._ids]
            piece = generator.choice(known)
            ids.append(generator.choice(self._ids[piece]))
            start += len(piece)
        return ids


@pytest.fixture(scope="module")
def load(published: Callable[[str], Path]) -> Callable[[str], Published]:
    return cache(lambda name: Published(published(name)))


@all_vocabularies
def test_the_confusion_point_of_foreign_words_in_real_sentences(
    name: str, load: Callable[[str], Published], record_property: Callable[[str, object], None]
) -> None:
    published, violations = load(name), Counter[str]()
    ways = (published.as_encoded, published.in_pieces, published.bytewise, published.at_random)
    for number, insertion in enumerate(insertions(INSERTIONS)):
        ids = ways[number // len(OWN) % len(ways)](insertion)  # the languages take turns, and then the ways
        violations.update(violated(published, insertion, ids))
        violations.update(violated_by_the_detector(published.table, insertion, ids))
    record_property("insertions", INSERTIONS)
    record_property("violations", violations.total())
    assert not violations


def violated(published: Published, insertion: Insertion, ids: list[int]) -> Iterator[str]:
    """Yield the laws of token bytes that do not hold for a sequence of tokens."""
    table, clean = published.table, insertion.before.encode()
    text = table.text(ids)
    if text != insertion.text:
        yield "the bytes are those of the text"
    if text != published.decode(ids):
        yield "the text is what the tokenizer decodes"
    c, last = table.tokens_of_character(ids, text, len(insertion.before))
    if not clean.startswith(table.join(ids[:c])):
        yield "no byte of the first confused character precedes c"
    if len(table.join(ids[: c + 1])) <= len(clean):
        yield "c has a byte of the first confused character"
    through = len(clean) + len(insertion.word[0].encode())
    if not len(table.join(ids[:last])) < through <= len(table.join(ids[: last + 1])):
        yield "the last token completes the first confused character"
    growing = GrowingText(table)
    if "".join(growing.push([token_id]) for token_id in ids) != text:
        yield "the text that grows token by token is the text"


def violated_by_the_detector(table: TokenBytes, insertion: Insertion, ids: list[int]) -> Iterator[str]:
    """Yield the laws of the confusion point that do not hold for a sequence of tokens."""
    point = confusion_point(ids, table, detector(insertion.language))
    if point is None or point.finding.start != len(insertion.before):
        yield "the detector finds the foreign word"
        return
    if point.token != table.tokens_of_character(ids, insertion.text, len(insertion.before))[0]:
        yield "the confusion point is c"
    streaming = StreamingDetector(table, detector(insertion.language))
    stop = next((number for number, token_id in enumerate(ids) if streaming.stop_condition([token_id])), len(ids) - 1)
    cut = confusion_point(ids[: stop + 1], table, detector(insertion.language))
    if cut is None or cut.token != point.token:
        yield "an answer that was stopped has the same confusion point"


@all_vocabularies
def test_the_bytes_of_every_token(name: str, load: Callable[[str], Published]) -> None:
    """In the middle of a text: at its beginning, some decoders drop a space."""
    published = load(name)
    table, around = published.table, published.encode("가")
    context = table.join(around)
    assert context == "가".encode()
    differing = {
        token_id: (table[token_id], decoded)
        for token_id in range(VOCABULARIES[name].rows)
        # Both give one U+FFFD for each longest beginning of a character, and for each byte that cannot be one.
        if (context + table[token_id] + context).decode(errors="replace")
        != (decoded := published.decode([*around, token_id, *around]))
    }
    assert differing == {}


@all_vocabularies
def test_the_text_of_any_tokens(name: str, load: Callable[[str], Published]) -> None:
    """Special and padded ids among them, and characters that end halfway, which the tokenizer decodes to U+FFFD."""
    published, generator = load(name), random.Random(0)
    # In a run of Gemma's byte tokens that is not UTF-8, decoding also replaces the bytes that make up characters.
    byte_tokens = set(published.tokenizer.convert_tokens_to_ids([f"<0x{byte:02X}>" for byte in range(256)]))
    rows = [token_id for token_id in range(VOCABULARIES[name].rows) if token_id not in byte_tokens]
    for _ in range(2_000):
        ids = generator.choices(rows, k=20)
        assert published.table.join(ids).decode(errors="replace") == published.decode(ids)


@all_vocabularies
def test_tokens_without_bytes_are_the_special_ones(name: str, load: Callable[[str], Published]) -> None:
    published, vocabulary = load(name), VOCABULARIES[name]
    added = published.tokenizer.added_tokens_decoder
    silent = {token_id for token_id in range(vocabulary.rows) if not published.table[token_id]}
    padding = set(range(len(published.tokenizer), vocabulary.rows))
    assert silent == padding | {token_id for token_id, token in added.items() if token.special}
    assert {*vocabulary.eos, vocabulary.bos, vocabulary.pad} - {None} <= silent
