"""Words of a text and how many of them are confused: what RPR and WPR are made of (equations 8 and 9)."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from detectors.errors import MissingExtraError
from detectors.find import Confusion, confusions
from detectors.languages import Segmenter
from detectors.profile import EXTRA, Profile

# Segmenters are C code that stops or fails at these.
_UNREADABLE = re.compile("[\ud800-\udfff\0]")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Words of one text. Words of English under the neutral setting are not counted."""

    words: int
    confused_words: int
    lines: int
    """Lines with a letter or a digit."""
    confused_lines: int
    """Lines that hold a part of a confusion."""
    status: Literal["pass", "fail", "empty"]
    """"empty": neither a word of the target language nor a confusion."""


def count(text: str, profile: Profile) -> Counts:
    """Count the words of the target language and the confused ones, and the lines.

    A word is what white space separates or, in Chinese, Japanese and Thai, what jieba, MeCab and PyThaiNLP find. A
    confused span that no white space separates from a word makes that word confused, otherwise its words are words of
    their own.

    Raises:
        MissingExtraError: the library that finds words of this language is not installed.
    """
    found = confusions(text, profile)
    if profile.language.segmenter == "spaces":
        words, confused = _count_pieces(text, found, profile)
    else:
        confused = sum(len(text[span.index : span.end].split()) for span in found)
        words = confused + _count_segmented(text, found, profile)
    lines, confused_lines = _count_lines(text, found)
    return Counts(
        words=words,
        confused_words=confused,
        lines=lines,
        confused_lines=confused_lines,
        status="fail" if found else "pass" if words else "empty",
    )


def _count_pieces(text: str, found: Sequence[Confusion], profile: Profile) -> tuple[int, int]:
    """Words and confused words among the pieces between white space."""
    words = confused = 0
    position = 0
    for span in found:
        # Whole pieces: from the start of the first that the span touches to the end of the last.
        if span.end <= position:
            continue
        start = max(_piece_start(text, span.index), position)
        end = _piece_end(text, span.end)
        words += _words_in(text[position:start], profile)
        touched = len(text[start:end].split())
        words += touched
        confused += touched
        position = end
    return words + _words_in(text[position:], profile), confused


def _words_in(text: str, profile: Profile) -> int:
    return len(text.split()) - len(profile.wordless.findall(text))


def _piece_start(text: str, index: int) -> int:
    while index > 0 and not text[index - 1].isspace():
        index -= 1
    return index


def _piece_end(text: str, index: int) -> int:
    found = _SPACE.search(text, index)
    return len(text) if found is None else found.start()


def _count_lines(text: str, found: Sequence[Confusion]) -> tuple[int, int]:
    """Lines with a letter or digit, and those of them that hold a part of a confusion."""
    lines = sum(any(map(str.isalnum, line)) for line in text.split("\n"))
    confused = 0
    counted_to = 0
    for span in found:
        start, end = max(span.index, counted_to), span.end
        if start >= end:
            continue
        confused += text.count("\n", start, end) + 1
        line_end = text.find("\n", end)
        counted_to = len(text) if line_end < 0 else line_end + 1
    return max(lines, confused), confused


def _count_segmented(text: str, found: Sequence[Confusion], profile: Profile) -> int:
    segment = _segmenter(profile.language.segmenter)
    if not found:
        return _words_of(segment(text), profile)
    starts = [0, *(span.end for span in found)]
    ends = [*(span.index for span in found), len(text)]
    return sum(_words_of(segment(text[start:end]), profile) for start, end in zip(starts, ends, strict=True))


def _words_of(segmented: str, profile: Profile) -> int:
    """Words of a text in which one space stands between any two pieces."""
    return segmented.count(" ") + bool(segmented) - len(profile.wordless.findall(segmented))


@cache
def _segmenter(name: Segmenter) -> Callable[[str], str]:
    """Puts one space between two pieces. Loaded at its first use: the dictionaries take a second and up to 250 MB."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segment = {"jieba": _jieba, "mecab": _mecab, "newmm": _newmm}[name]()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"words are counted with {error.name}, which is not installed: {EXTRA}") from error
    return lambda text: segment(text if _is_readable(text) else _UNREADABLE.sub(" ", text))


def _is_readable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _jieba() -> Callable[[str], str]:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    return lambda text: _joined(jieba.cut(text))


def _mecab() -> Callable[[str], str]:
    import fugashi

    tagger = fugashi.Tagger("-Owakati")
    # What is white space to Python, MeCab takes for words in part.
    return lambda text: str(tagger.parse(_evenly(text)))


def _newmm() -> Callable[[str], str]:
    from pythainlp.tokenize import word_tokenize

    return lambda text: _joined(word_tokenize(text, engine="newmm"))


def _joined(pieces: Iterable[str]) -> str:
    return _evenly(" ".join(pieces))


def _evenly(text: str) -> str:
    return " ".join(text.split())
