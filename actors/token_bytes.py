"""The bytes of every token, and text that grows token by token without ever being re-encoded.

Text is UTF-8 decoded with ``surrogateescape``: a byte that is not (yet) part of a character becomes one lone surrogate.
So every code point of the text corresponds to certain bytes, and these to certain tokens.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from tlpo_ray.errors import ModelError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SENTENCE_PIECE = {"Replace", "Metaspace", "ByteFallback", "Fuse", "Strip"}
"""Steps of the decoders of SentencePiece vocabularies."""


class TokenBytes:
    """The bytes of each token id of a fast tokenizer, as the tokenizer itself decodes it within an answer.

    Byte-level BPE (Qwen, Llama 3, Tekken, gpt-oss) spells bytes as printable characters. SentencePiece vocabularies
    (Gemma, Llama 2) spell text with ▁ for a space and fall back to ``<0xE4>`` for single bytes. Added tokens are
    spelled in the same way, e.g. Gemma's runs of spaces as ``▁▁``. Those that are marked as special have no bytes,
    whether or not the tokenizer also has a name for them such as `eos_token`. Nor have ids that the tokenizer lacks:
    holes, and the rows by which weights are padded. Added tokens without that mark have bytes, because decoding prints
    them, e.g. ``<think>`` of Qwen and ``<unused7>`` of Gemma.

    `text` is ``decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)`` except in two points:

    - Bytes that are not UTF-8 become one lone surrogate each. The tokenizer writes U+FFFD for them, in SentencePiece
      vocabularies also for all other bytes of the same run of byte tokens, those of complete characters included.
    - Spaces of the first token stay. Decoders of some SentencePiece vocabularies (Llama 2, Mistral 7B) drop them, but
      here a sequence of tokens may be the continuation of another.

    Args:
        tokenizer: A fast tokenizer of transformers.
        visible: Special tokens that have their text as bytes all the same, by that text.

    Raises:
        ModelError: The tokenizer's decoder is of neither kind.
    """

    def __init__(self, tokenizer: Any, visible: Collection[str] = ()) -> None:
        spell = _spelling(tokenizer)
        added = tokenizer.added_tokens_decoder
        # `all_special_ids` would not do: it has the named tokens only. Compared by name, as decoding does.
        special = {str(token) for token in added.values() if token.special}.difference(visible)
        # Not `len(tokenizer)`: the ids of some vocabularies have holes.
        size = 1 + max([*tokenizer.get_vocab().values(), *added])
        pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
        self._bytes = [b"" if piece is None or piece in special else spell(piece) for piece in pieces]

    def __getitem__(self, token_id: int) -> bytes:
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def join(self, token_ids: Iterable[int]) -> bytes:
        """Return the bytes of a sequence of tokens."""
        return b"".join(self[token_id] for token_id in token_ids)

    def text(self, token_ids: Iterable[int]) -> str:
        """Return the text of a sequence of tokens, with undecodable bytes as lone surrogates."""
        return self.join(token_ids).decode("utf-8", errors="surrogateescape")

    def tokens_of_character(self, token_ids: Sequence[int], text: str, index: int) -> tuple[int, int]:
        """Return the positions of the first and the last token with a byte of one code point.

        Args:
            token_ids: Tokens of the text.
            text: What `text(token_ids)` returns; only its first `index` + 1 code points are read.
            index: Index of the code point in `text`.
        """
        start = len(text[:index].encode("utf-8", errors="surrogateescape"))
        last = start + len(text[index].encode("utf-8", errors="surrogateescape")) - 1
        ends = list(itertools.accumulate(len(self[token_id]) for token_id in token_ids))
        return bisect_right(ends, start), bisect_right(ends, last)


class GrowingText:
    """The text of an answer that grows token by token; an unfinished character at its end is held back."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")

    def push(self, token_ids: Iterable[int]) -> str:
        """Return the text that these further tokens complete."""
        return self._decoder.decode(self._token_bytes.join(token_ids))


def decoded(content: bytes) -> tuple[str, bytes]:
    """Return the complete characters of bytes, and the bytes at their end that begin another one.

    Bytes that belong to no character become lone surrogates.
    """
    try:
        return content.decode(), b""
    except UnicodeDecodeError:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        return decoder.decode(content), decoder.getstate()[0]


def _spelling(tokenizer: Any) -> Callable[[str], bytes]:
    """Return the function from a piece of this tokenizer's vocabulary to its bytes."""
    decoder = tokenizer.backend_tokenizer.decoder
    steps = [] if decoder is None else list(_steps(json.loads(decoder.__getstate__())))
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return _byte_level
    replaced = [_replacement(step) for step in steps if step["type"] in ("Replace", "Metaspace")]
    if kinds <= _SENTENCE_PIECE and (replaced or "ByteFallback" in kinds) and None not in replaced:
        spelled = [pair for pair in replaced if pair is not None]
        return partial(_sentence_piece, spelled=spelled, has_byte_tokens="ByteFallback" in kinds)
    raise ModelError(
        f"tokenizer {tokenizer.name_or_path!r}: decoder {sorted(kinds)} is neither byte-level nor SentencePiece, so "
        f"the bytes of its tokens are unknown"
    )


def _steps(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of a decoder in order; sequences of steps may be nested."""
    if decoder["type"] == "Sequence":
        for step in decoder["decoders"]:
            yield from _steps(step)
    else:
        yield decoder


def _replacement(step: dict[str, Any]) -> tuple[str, str] | None:
    """Return what a step replaces, and by what; None if it is a regular expression."""
    if step["type"] == "Metaspace":
        return step["replacement"], " "
    pattern: str | None = step["pattern"].get("String")
    return None if pattern is None else (pattern, step["content"])


def _byte_level(piece: str) -> bytes:
    table = _BYTE_LEVEL
    if all(char in table for char in piece):
        return bytes(table[char] for char in piece)
    return piece.encode()  # added tokens are spelled as they are


def _sentence_piece(piece: str, spelled: Sequence[tuple[str, str]], has_byte_tokens: bool) -> bytes:
    if has_byte_tokens and (match := _BYTE_TOKEN.fullmatch(piece)):
        return bytes([int(match[1], 16)])
    for spelling, text in spelled:
        piece = piece.replace(spelling, text)
    return piece.encode()


def _byte_level_table() -> dict[str, int]:
    # The byte-level alphabet: printable Latin-1 spells itself, and code points from 256 on spell the other bytes.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + number): byte for number, byte in enumerate(rest)}
    return {chr(byte): byte for byte in printable} | shifted


_BYTE_LEVEL = _byte_level_table()
