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
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tlpo_ray.errors import ModelError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_START = "▁"  # SentencePiece spells a space like this


class TokenBytes:
    """The bytes of each token id of a fast tokenizer.

    Byte-level BPE (Qwen, Llama 3, Tekken) spells bytes as printable characters; SentencePiece vocabularies (Gemma,
    Llama 2, Mistral) spell text with ▁ for a space and fall back to ``<0xE4>`` for single bytes. Special tokens, and
    ids that the tokenizer does not have (padded vocabularies), have no bytes.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Raises:
        ModelError: The tokenizer's decoder is of neither kind.
    """

    def __init__(self, tokenizer: Any) -> None:
        spell = _spelling(tokenizer)
        special = set(tokenizer.all_special_ids)
        added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._bytes = [
            b"" if index in special or piece is None else added[index].encode() if index in added else spell(piece)
            for index, piece in enumerate(pieces)
        ]

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


def _spelling(tokenizer: Any) -> Callable[[str], bytes]:
    """Return the function from a piece of this tokenizer's vocabulary to its bytes."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}
    kinds = {decoder.get("type")} | {part.get("type") for part in decoder.get("decoders", ())}
    if "ByteLevel" in kinds:
        return _byte_level
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return _sentence_piece
    raise ModelError(
        f"tokenizer {tokenizer.name_or_path!r}: decoder {sorted(map(str, kinds))} is neither byte-level nor "
        f"SentencePiece with byte fallback, so the bytes of its tokens are unknown"
    )


def _byte_level(piece: str) -> bytes:
    table = _BYTE_LEVEL
    if all(char in table for char in piece):
        return bytes(table[char] for char in piece)
    return piece.encode()  # added tokens are spelled as they are


def _sentence_piece(piece: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(_WORD_START, " ").encode()


def _byte_level_table() -> dict[str, int]:
    # The byte-level alphabet: printable Latin-1 spells itself, and code points from 256 on spell the other bytes.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + number): byte for number, byte in enumerate(rest)}
    return {chr(byte): byte for byte in printable} | shifted


_BYTE_LEVEL = _byte_level_table()
