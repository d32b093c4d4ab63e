"""Where answers of a real chat model leave a language in Latin script, against the marks of two readers.

`latin_onset.jsonl` has answers of SmolLM2-135M-Instruct (Apache-2.0) to prompts of the Language Confusion Benchmark in
five languages, and the place where the first word of another language begins (English counts) by both readers' marks.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from detectors import Stream, find, language

FILE = Path(__file__).with_name("latin_onset.jsonl")
LIKELY = 0.6
"""Temperature up to which answers are sentences; at 1.0 this model writes words that no language has."""


@cache
def marked() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize(("hottest", "exact"), [(LIKELY, 0.9), (1.0, 0.87)])
def test_precision_recall_and_onset_on_marked_answers(hottest: float, exact: float) -> None:
    rows = [row for row in marked() if row["temperature"] <= hottest and not row["uncertain"]]
    assert len(rows) > 150
    found = {row["id"]: find(row["text"], language(row["lang"], "confusion")) for row in rows}
    confused = {row["id"]: row["index"] for row in rows if row["index"] is not None}
    right = {name for name, finding in found.items() if finding is not None and name in confused}
    assert len(right) >= 0.97 * sum(finding is not None for finding in found.values())
    assert len(right) >= 0.95 * len(confused)
    assert sum(found[name].start == confused[name] for name in right) >= exact * len(right)  # type: ignore[union-attr]


def test_a_stream_is_certain_a_few_words_after_the_onset() -> None:
    waited = []
    for row in marked():
        detector = language(row["lang"], "confusion")
        finding = find(row["text"], detector)
        stream = Stream(detector)
        early = None
        for position, char in enumerate(row["text"]):
            if (early := stream.feed(char)) is not None:
                waited.append(len(row["text"][early.start : position].split()))
                break
        closed = stream.close()
        assert (closed and closed.start) == (finding and finding.start)
    assert sum(waited) <= 5 * len(waited)


ONSETS = [
    ("es", "La capital es Madrid. The city has many parks.", "The"),
    ("es", "Hola. I'm sorry for any confusion, but", "I'm"),
    ("it", "L'estuario della storia. I am a helpful assistant", "I am"),
    ("it", "Ecco la risposta.\n\nIn 2010, the company was founded", "In 2010"),
    ("de", "Das ist gut. In German, this phrase means", "In German"),
    ("pt", "Oswald de Andrade was a Brazilian poet and", "was"),
    ("fr", "Bonjour ! Hello, how can I help you today?", "Hello"),
    ("fr", "Il est né à Lyon. Ladies and Gentlemen, it is a pleasure", "Ladies"),
    ("en", "This is fine. Das ist nicht so gut wie es sein sollte.", "Das"),
    ("pt", "A resposta é simples. El perro de la casa es muy grande y bonito.", "El"),
    ("sv", "Det är en bra dag. Jeg ved ikke hvad jeg skal gøre med det.", "Jeg"),
    ("id", "Saya suka makan nasi. The food is very good", "The"),
    ("sw", "Watu wengi wanaishi katika mji huo. The people of the city are", "The"),
]


@pytest.mark.parametrize(("code", "text", "word"), ONSETS)
def test_a_passage_begins_with_its_first_foreign_word(code: str, text: str, word: str) -> None:
    finding = find(text, language(code, "confusion"))
    assert finding is not None and text[finding.start :].startswith(word), finding


CLEAN = [
    ("es", "La película The Lord of the Rings es una obra de Peter Jackson y ganó premios."),
    ("es", 'La frase "I have a dream that one day" es de Martin Luther King.'),
    ("es", "El equipo de marketing usa software online para el feedback de los clientes."),
    ("pt", "O algoritmo de ordenação merge sort é eficiente e popular."),
    ("de", "Das Meeting war so gut, also war er an der Uni in London."),
    ("fr", "Le groupe Rage Against the Machine a sorti un album."),
    ("it", "Il film Game of Thrones è una serie televisiva."),
    ("en", "The restaurant has a menu à la carte, of course."),
    ("id", "Saya boleh pergi kerana mereka telah datang ke rumah kita."),
    ("da", "Jeg vet ikke hva jeg skal gjøre, men det er en fin dag i dag."),
]


@pytest.mark.parametrize(("code", "text"), CLEAN)
def test_names_titles_quotations_and_loans_are_no_passage(code: str, text: str) -> None:
    assert find(text, language(code, "confusion" if code != "en" else "neutral")) is None
