"""Speed of the detectors: verdicts, counts and streams, on real answers if they are stored beside the checkout."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import detectors
from detectors import LanguageDetector, Stream, count, find
from tests.bench.compare import Row, compared
from tests.bench.lcb import answers_in
from tests.shared import DATA
from tlpo_ray.quickstart.world import toy_world

ANSWERS = DATA / "lcb_completions" / "gpt-3.5-turbo.csv.gz"
SPACED = ("ko", "ar", "ru", "hi")
ALL = (*SPACED, "zh", "ja")
TOKEN = 3
"""Characters per token, about as many as with a multilingual vocabulary."""


@cache
def answers() -> dict[str, list[str]]:
    """Return clean answers by language, from the Language Confusion Benchmark or else from the toy world."""
    texts: dict[str, list[str]] = {}
    if ANSWERS.is_file():
        for _, _, language, text in answers_in(ANSWERS):
            texts.setdefault(language, []).append(text)
    else:
        for question in toy_world().questions:
            texts.setdefault(question.language, []).append(question.clean_answer * 12)
    return {
        language: [text for text in written if find(text, detectors.language(language)) is None]
        for language, written in texts.items()
    }


def _named(language: str) -> str:
    return f"{language}, {'real answers' if ANSWERS.is_file() else 'toy answers'}"


def _in_own_script(language: str) -> list[str]:
    foreign = detectors.language(language).profile.foreign_letters
    return [text for text in answers()[language] if foreign.search(text) is None]


def verdicts(model: Path) -> Iterator[Row]:
    """Measure the verdict: whether and where an answer is confused."""
    for language in ALL:
        if language not in answers():
            continue
        detector, texts = detectors.language(language), _in_own_script(language)
        foreign = detector.profile.foreign_letters
        yield compared(
            _named(language),
            ("detectors.find", lambda detector=detector, texts=texts: [find(text, detector) for text in texts]),
            ("a bare compiled scan", lambda foreign=foreign, texts=texts: [foreign.search(text) for text in texts]),
        ).with_rate(sum(map(len, texts)), "chars")
    detector, texts = detectors.language("ko"), _in_own_script("ko")
    yield compared(
        _named("ko"),
        ("detectors.find", lambda: [find(text, detector) for text in texts]),
        ("the name of every character", lambda: [_by_names(text) for text in texts]),
    ).with_rate(sum(map(len, texts)), "chars")


def _by_names(text: str) -> int | None:
    """Return what the paper's public code would: it examines the Unicode name of every character."""
    known = ("HANGUL", "LATIN", "DIGIT")
    for index, char in enumerate(text):
        if char.isalpha() and not unicodedata.name(char, "").startswith(known):
            return index
    return None


def counts(model: Path) -> Iterator[Row]:
    """Measure the counts of words and confused words."""
    for language in SPACED:
        if language in answers():
            detector, texts = detectors.language(language), answers()[language]
            yield compared(
                _named(language),
                ("detectors.count", lambda detector=detector, texts=texts: [count(text, detector) for text in texts]),
                ("split at white space", lambda texts=texts: [text.split() for text in texts]),
            ).with_rate(sum(map(len, texts)), "chars")
    for language, segment in (("zh", _jieba()), ("ja", _mecab())):
        detector, texts = detectors.language(language), answers()[language]
        yield compared(
            _named(language),
            ("detectors.count", lambda detector=detector, texts=texts: [count(text, detector) for text in texts]),
            ("its segmenter alone", lambda texts=texts, segment=segment: [segment(text) for text in texts]),
        ).with_rate(sum(map(len, texts)), "chars")


def _jieba():  # type: ignore[no-untyped-def]
    import jieba

    jieba.setLogLevel("WARNING")
    return jieba.lcut


def _mecab():  # type: ignore[no-untyped-def]
    import fugashi

    tagger = fugashi.Tagger("-Owakati")
    return lambda text: tagger.parse(text).split()


def streams(model: Path) -> Iterator[Row]:
    """Measure detection while an answer grows token by token."""
    for language in (*ALL, "es", "en"):
        if language not in answers():
            continue
        detector, texts = detectors.language(language), answers()[language][:100]
        tokens = [_tokens(text) for text in texts]
        yield compared(
            _named(language),
            ("Stream.feed", lambda detector=detector, tokens=tokens: [_watch(detector, pieces) for pieces in tokens]),
            (
                "find on the text so far",
                lambda detector=detector, tokens=tokens: [_find_anew(detector, p) for p in tokens],
            ),
        ).with_rate(sum(map(len, tokens)), "tokens")


def _tokens(text: str) -> list[str]:
    return [text[start : start + TOKEN] for start in range(0, len(text), TOKEN)]


def _watch(detector: LanguageDetector, pieces: list[str]) -> None:
    stream = Stream(detector)
    for piece in pieces:
        stream.feed(piece)


def _find_anew(detector: LanguageDetector, pieces: list[str]) -> None:
    text = ""
    for piece in pieces:
        text += piece
        find(text, detector, final=False)


def imports(model: Path) -> Iterator[Row]:
    """Measure how long a process takes to start."""
    yield compared(
        "import",
        ("python -c 'import detectors'", lambda: _python("import detectors")),
        ("python -c 'pass'", lambda: _python("pass")),
    )


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
