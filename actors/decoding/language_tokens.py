"""Which tokens of a vocabulary write letters of a language, and which would write foreign ones, in whole or in pieces.

Shape suffix: V rows of the model's output head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from actors.token_bytes import TokenBytes, decoded
from detectors.characters import ScriptCharacters, script_characters
from detectors.language_profile import English
from detectors.scripts import script_of

LONGEST_TAIL = 16
"""Tokens at the end of an answer that decide what may follow: enough for an unfinished character and the last word."""
_LONE_BYTE = re.compile("[\udc80-\udcff]")
_CONTINUATION = range(0x80, 0xC0)
_SIZES = ((range(0xC2, 0xE0), 2), (range(0xE0, 0xF0), 3), (range(0xF0, 0xF5), 4))
"""First byte of a character of several bytes, with their number (RFC 3629)."""


class VocabularyText:
    """The text of every token, with the bytes of characters that it leaves unfinished.

    Args:
        token_bytes: Bytes of the tokenizer's tokens.
        added: Added tokens: they are the model's own marks, such as `<think>`, and belong to no language.
        rows: V, rows of the model's output head; those without a token have no text.
    """

    def __init__(self, token_bytes: TokenBytes, added: Iterable[int], rows: int) -> None:
        self.rows = rows
        self._token_bytes = token_bytes
        self._added = frozenset(added)
        self.texts: list[str] = []
        """Complete characters of each token; a byte that belongs to none is a lone surrogate."""
        self.tails: dict[int, bytes] = {}
        """Bytes at the end of a token that begin a character, by token id, where there are any."""
        self.continuing: list[int] = []
        """Tokens whose first byte continues a character that another token has begun."""
        for token in range(rows):
            content = b"" if token in self._added else token_bytes[token]
            text, tail = decoded(content)
            self.texts.append(text)
            if tail:
                self.tails[token] = tail
            if content and content[0] in _CONTINUATION:
                self.continuing.append(token)

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes of a token; none for an added one."""
        return b"" if token in self._added else self._token_bytes[token]

    def join(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens in a row."""
        return b"".join(map(self.bytes_of, tokens))


def vocabulary_text(tokenizer: Any, rows: int) -> VocabularyText:
    """Return the text of a tokenizer's vocabulary.

    Args:
        tokenizer: A fast tokenizer of transformers.
        rows: V, rows of the model's output head.

    Raises:
        ModelError: The bytes of its tokens are unknown.
    """
    return VocabularyText(TokenBytes(tokenizer), tokenizer.added_tokens_decoder, rows)


class LanguageTokens:
    """The tokens of a vocabulary as one language sees them.

    A token is foreign if, written at this place, it would complete a foreign letter, begin a character that can only
    become one, or leave bytes that are no character. So no sequence of tokens that are not foreign has a foreign
    letter, not even one that is pieced together from byte tokens.

    Args:
        vocabulary: Text of the tokens.
        language: Any name of the language of the answer.
        english: Meaning of English words: "neutral" leaves all Latin letters alone.

    Raises:
        UnknownLanguageError: The language has no detector.
    """

    def __init__(self, vocabulary: VocabularyText, language: str, english: English) -> None:
        self._vocabulary = vocabulary
        self._characters: ScriptCharacters = script_characters(language, english)
        self._foreign: dict[str, Tensor] = {}
        self._barred: dict[str, Tensor] = {}
        self._following: dict[tuple[bytes, str], Tensor] = {}
        self._may_become: Callable[[bytes, str], bool] = cache(self._can_become)

    @cached_property
    def kinds(self) -> Tensor:
        """1 for each token of the language, in the first column, and for each foreign one, in the second: float [V, 2].

        A token of the language has a letter of its scripts, or begins a character that may become one, and is not
        foreign. Neither are digits, signs, and tokens of other Latin words where English is neutral.
        """
        own = self._characters.own
        own_V = torch.tensor([own.search(text) is not None for text in self._vocabulary.texts])
        begins_own = cache(lambda tail: any(own.match(char) for char in _characters(tail)))
        for token, tail in self._vocabulary.tails.items():
            own_V[token] = own_V[token] or begins_own(tail)
        return torch.stack([own_V & ~self.foreign(), self.foreign()], dim=1).float()

    def foreign(self, kept: str = "") -> Tensor:
        """Return whether each token is foreign behind a complete character, as a bool tensor [V].

        Args:
            kept: Script whose letters are not foreign here; empty for none.
        """
        if kept not in self._foreign:
            pattern = self._characters.foreign_but(kept)
            texts, tails = self._vocabulary.texts, self._vocabulary.tails
            foreign = torch.tensor([pattern.search(text) is not None or _is_broken(text) for text in texts])
            for token, tail in tails.items():
                foreign[token] = foreign[token] or not self._may_become(tail, kept)
            self._foreign[kept] = foreign
        return self._foreign[kept]

    def barred(self, kept: str = "") -> Tensor:
        """Return minus infinity for each token that is foreign and 0 for the others, as a float32 tensor [V]."""
        if kept not in self._barred:
            self._barred[kept] = torch.zeros(self._vocabulary.rows).masked_fill_(self.foreign(kept), float("-inf"))
        return self._barred[kept]

    def following(self, pending: bytes, kept: str = "") -> Tensor:
        """Return the tokens that may follow an unfinished character, as ids; empty if the vocabulary has none.

        Args:
            pending: The bytes of the character so far, at least one.
            kept: Script whose letters are not foreign here; empty for none.
        """
        key = pending, kept
        if key not in self._following:
            pattern = self._characters.foreign_but(kept)
            allowed = []
            for token in self._vocabulary.continuing:
                text, tail = decoded(pending + self._vocabulary.bytes_of(token))
                if pattern.search(text) or _is_broken(text) or (tail and not self._may_become(tail, kept)):
                    continue
                allowed.append(token)
            self._following[key] = torch.tensor(allowed, dtype=torch.long)
        return self._following[key]

    def pending(self, tail: Sequence[int]) -> bytes:
        """Return the bytes of the character that the last tokens of an answer leave unfinished; empty if none."""
        return decoded(self._vocabulary.join(tail[-4:]))[1]

    def script_of_last_word(self, tail: Sequence[int]) -> str:
        """Return the script of the last letter among the last tokens of an answer; empty if there is none."""
        text = decoded(self._vocabulary.join(tail[-LONGEST_TAIL:]))[0]
        return next((script for char in reversed(text) if (script := script_of(char)) != "Common"), "")

    def _can_become(self, begun: bytes, kept: str) -> bool:
        """Return whether the first bytes of a character are those of at least one that is not foreign."""
        pattern = self._characters.foreign_but(kept)
        return any(not pattern.match(char) for char in _characters(begun))


def _is_broken(text: str) -> bool:
    return _LONE_BYTE.search(text) is not None


def _characters(begun: bytes) -> Iterator[str]:
    """Yield the characters whose UTF-8 form begins with some bytes."""
    size = next(size for first, size in _SIZES if begun[0] in first)
    missing = size - len(begun)
    value = begun[0] & (0x7F >> size)
    for byte in begun[1:]:
        value = value << 6 | byte & 0x3F
    low, high = value << 6 * missing, (value + 1 << 6 * missing) - 1
    smallest = {2: 0x80, 3: 0x800, 4: 0x10000}[size]
    for point in range(max(low, smallest), min(high, 0x10FFFF) + 1):
        if not 0xD800 <= point < 0xE000:
            yield chr(point)
