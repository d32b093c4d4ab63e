"""Words of a text and how many of them are confused: what RPR and WPR are made of (equations 8 and 9)."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from detectors.find import Confusion, spans
from detectors.profile import Profile, Segmenter

# Segmenters are C code that stops or fails at these.
_UNREADABLE = re.compile("[\ud800-\udfff\0]")
_PIECE = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Words of one text. Words of English under the neutral setting are not counted."""

    words: int
    confused_words: int
    status: Literal["pass", "fail", "empty"]
    """"empty": neither a word of the target language nor a confusion."""


def count(text: str, profile: Profile) -> Counts:
    """Count the words of the target language and the confused ones.

    A word is what white space separates (Korean, Arabic) or what jieba (Chinese) and MeCab (Japanese) find; a
    confused span that no white space separates from a word makes that word confused, otherwise it is a word itself.
    """
    found = spans(text, profile)
    if profile.language.segmenter == "spaces":
        words, confused = _count_pieces(text, found, profile)
    else:
        confused = len(found)
        words = confused + _count_segmented(text, found, profile)
    return Counts(words=words, confused_words=confused, status="fail" if found else "pass" if words else "empty")


def _count_pieces(text: str, found: Sequence[Confusion], profile: Profile) -> tuple[int, int]:
    words = confused = 0
    remaining = list(reversed(found))
    for piece in _PIECE.finditer(text):
        hit = False
        while remaining and remaining[-1].index < piece.end():
            hit = True
            if remaining[-1].end > piece.end():
                break
            remaining.pop()
        words += hit or profile.letters.search(piece.group()) is not None
        confused += hit
    return words, confused


def _count_segmented(text: str, found: Sequence[Confusion], profile: Profile) -> int:
    starts = [0, *(span.end for span in found)]
    ends = [*(span.index for span in found), len(text)]
    segment = _segmenter(profile.language.segmenter)
    return sum(
        profile.letters.search(word) is not None
        for start, end in zip(starts, ends, strict=True)
        for word in segment(_UNREADABLE.sub(" ", text[start:end]))
    )


@cache
def _segmenter(name: Segmenter) -> Callable[[str], Sequence[str]]:
    """Loaded at its first use: the dictionaries take a second and up to 250 MB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "jieba":
            import jieba

            jieba.setLogLevel(logging.WARNING)
            jieba.initialize()
            return jieba.lcut  # type: ignore[no-any-return]
        import fugashi

        tagger = fugashi.Tagger("-Owakati")
        return lambda text: tagger.parse(text).split()
