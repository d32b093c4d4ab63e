"""The detectors: verdicts, counts and streams, on real answers where they lie beside the checkout."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from detectors import Profile, Stream, count, find, profile
from tests.bench.compare import Row, compared
from tests.bench.lcb import answers_in
from tests.shared import DATA
from tlpo_ray.quickstart.world import toy_world

ANSWERS = DATA / "lcb_completions" / "gpt-3.5-turbo.csv.gz"
SPACED = ("ko", "ar", "ru", "hi")
ALL = (*SPACED, "zh", "ja")
TOKEN = 3
"""Characters of a token, about what a multilingual vocabulary has."""


@cache
def answers() -> dict[str, list[str]]:
    """Clean answers by language: of the Language Confusion Benchmark, else of the toy world."""
    texts: dict[str, list[str]] = {}
    if ANSWERS.is_file():
        for _, _, language, text in answers_in(ANSWERS):
            texts.setdefault(language, []).append(text)
    else:
        for question in toy_world().questions:
            texts.setdefault(question.language, []).append(question.clean_answer * 12)
    return {
        language: [text for text in found if find(text, profile(language)) is None] for language, found in texts.items()
    }


def _named(language: str) -> str:
    return f"{language}, {'real answers' if ANSWERS.is_file() else 'toy answers'}"


def _in_own_script(language: str) -> list[str]:
    at = profile(language)
    return [text for text in answers()[language] if at.suspects.search(text) is None]


def verdicts(model: Path) -> Iterator[Row]:
    """Whether and where an answer is confused."""
    for language in ALL:
        if language not in answers():
            continue
        at, texts = profile(language), _in_own_script(language)
        yield compared(
            f"find, {_named(language)}",
            ("detectors.find", lambda at=at, texts=texts: [find(text, at) for text in texts]),
            ("a bare compiled scan", lambda at=at, texts=texts: [at.suspects.search(text) for text in texts]),
        ).with_rate(sum(map(len, texts)), "characters")
    at, texts = profile("ko"), _in_own_script("ko")
    yield compared(
        f"find, {_named('ko')}",
        ("detectors.find", lambda: [find(text, at) for text in texts]),
        ("the name of every character", lambda: [_by_names(text) for text in texts]),
    ).with_rate(sum(map(len, texts)), "characters")


def _by_names(text: str) -> int | None:
    """The public code's way: Unicode names, character by character."""
    known = ("HANGUL", "LATIN", "DIGIT")
    for index, char in enumerate(text):
        if char.isalpha() and not unicodedata.name(char, "").startswith(known):
            return index
    return None


def counts(model: Path) -> Iterator[Row]:
    """Words and confused words."""
    for language in SPACED:
        if language in answers():
            at, texts = profile(language), answers()[language]
            yield compared(
                f"count, {_named(language)}",
                ("detectors.count", lambda at=at, texts=texts: [count(text, at) for text in texts]),
                ("splitting at white space", lambda texts=texts: [text.split() for text in texts]),
            ).with_rate(sum(map(len, texts)), "characters")
    for language, segment in (("zh", _jieba()), ("ja", _mecab())):
        at, texts = profile(language), answers()[language]
        yield compared(
            f"count, {_named(language)}",
            ("detectors.count", lambda at=at, texts=texts: [count(text, at) for text in texts]),
            ("its segmenter alone", lambda texts=texts, segment=segment: [segment(text) for text in texts]),
        ).with_rate(sum(map(len, texts)), "characters")


def _jieba():  # type: ignore[no-untyped-def]
    import jieba

    jieba.setLogLevel("WARNING")
    return jieba.lcut


def _mecab():  # type: ignore[no-untyped-def]
    import fugashi

    tagger = fugashi.Tagger("-Owakati")
    return lambda text: tagger.parse(text).split()


def streams(model: Path) -> Iterator[Row]:
    """Watching answers grow."""
    for language in (*ALL, "es", "en"):
        if language not in answers():
            continue
        at, texts = profile(language), answers()[language][:100]
        tokens = [_tokens(text) for text in texts]
        yield compared(
            f"watch, {_named(language)}",
            ("Stream.feed", lambda at=at, tokens=tokens: [_watch(at, pieces) for pieces in tokens]),
            ("find on the text so far", lambda at=at, tokens=tokens: [_again(at, pieces) for pieces in tokens]),
        ).with_rate(sum(map(len, tokens)), "tokens")


def _tokens(text: str) -> list[str]:
    return [text[start : start + TOKEN] for start in range(0, len(text), TOKEN)]


def _watch(at: Profile, pieces: list[str]) -> None:
    stream = Stream(at)
    for piece in pieces:
        stream.feed(piece)


def _again(at: Profile, pieces: list[str]) -> None:
    text = ""
    for piece in pieces:
        text += piece
        find(text, at, final=False)


def imports(model: Path) -> Iterator[Row]:
    """Start of a process."""
    yield compared(
        "import",
        ("python -c 'import detectors'", lambda: _python("import detectors")),
        ("python -c 'pass'", lambda: _python("pass")),
    )


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
