"""The language of a prompt that states none: right where it is certain, and None where it is not."""

from __future__ import annotations

import gzip
import json

import pytest

from detectors import identify
from tests.shared import DATA

CERTAIN = {
    "ko": "일본의 통화는 무엇입니까?",
    "ja": "日本の通貨は何ですか。",
    "zh": "日本的货币是什么？请简单介绍一下。",
    "ar": "ما هي عملة اليابان وكيف نشأت؟",
    "fa": "واحد پول ژاپن چیست و چگونه به وجود آمد؟",
    "ur": "جاپان کی کرنسی کیا ہے اور یہ کیسے بنی؟",
    "hi": "जापान की मुद्रा क्या है और यह कैसे बनी?",
    "th": "สกุลเงินของญี่ปุ่นคืออะไร",
    "el": "Ποιο είναι το νόμισμα της Ιαπωνίας;",
    "ru": "Какая валюта используется в Японии?",
    "uk": "Яка валюта використовується в Японії?",
    "kk": "Жапонияның ұлттық валютасы қандай және қалай пайда болды?",
    "en": "What is the currency of Japan, and how did it come about?",
    "de": "Welche Währung hat Japan, und wie ist sie entstanden?",
    "es": "¿Cuál es la moneda de Japón y cómo surgió?",
    "fr": "Quelle est la monnaie du Japon et comment est-elle née ?",
    "it": "Qual è la valuta del Giappone e come è nata?",
    "pt": "Qual é a moeda do Japão e como ela surgiu?",
    "tr": "Japonya'nın para birimi nedir ve nasıl ortaya çıktı?",
    "vi": "Đơn vị tiền tệ của Nhật Bản là gì và nó ra đời như thế nào?",
    "id": "Apa mata uang Jepang dan bagaimana asal mulanya? Jelaskan kepada saya.",
}


@pytest.mark.parametrize("language", sorted(CERTAIN))
def test_a_sentence_is_identified(language: str) -> None:
    assert identify(CERTAIN[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "", "?", "1 + 1 = 2", "🙂", "```python\nprint('안녕하세요')\n```", "https://example.com/안녕하세요", "Python",
        "東京",
        "안녕하세요 means hello there",
        "Какво е българската валута и как се появи тя?",  # Bulgarian, which has no detector
        "Koja je valuta Japana i kako je nastala?",  # nor has Croatian
    ],
)  # fmt: skip
def test_what_is_not_certain_has_no_language(text: str) -> None:
    assert identify(text) is None


ENGLISH = "The yen is the official currency of Japan. It is the third most traded currency in the world. "


@pytest.mark.parametrize(
    "text",
    [
        f"Context: {ENGLISH * 30}\n\nQuestion: 일본의 통화는 무엇입니까?",
        f"다음 글을 요약하세요.\n{ENGLISH * 30}",
        f"다음 글을 요약하세요: {ENGLISH}",
        "다음 글을 요약하세요.\n日本の通貨は円です。",
    ],
)
def test_a_question_about_a_text_in_another_language_is_not_certain(text: str) -> None:
    assert identify(text) is None


def test_a_text_between_instructions_does_not_decide() -> None:
    assert identify(f"다음 글을 읽고 답하세요.\n\n{ENGLISH * 30}\n\n일본의 통화는 무엇입니까?") == "ko"


def test_names_and_terms_do_not_change_the_language() -> None:
    assert identify("Docker Compose에서 PostgreSQL 컨테이너가 시작되지 않는 이유를 알려 주세요.") == "ko"
    assert identify("Wer hat „Москва“ gedreht, und wann kam der Film in die Kinos?") == "de"
    assert identify("TensorFlowとPyTorchの違いを説明してください。") == "ja"


def test_languages_that_cannot_be_told_apart_are_the_expected_one() -> None:
    text = CERTAIN["id"]
    assert identify(text, ["ms"]) == "ms" and identify(text, ["ms", "id"]) == "id" and identify(text, ["ko"]) == "id"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the prompts of two benchmarks (TLPO_SHARED)")
def test_published_prompts_are_identified() -> None:
    prompts = [
        (name[:2], json.loads(line)["prompt"])
        for name in ("ar_local", "en", "ja", "ko", "ru", "th", "uk")
        for line in (DATA / "mif" / f"{name}.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    with gzip.open(DATA / "lcb_prompts" / "lcb_prompts.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    prompts += [(row["language"], row["prompt"]) for row in rows if row["task"] == "monolingual"]
    found = [(language, identify(prompt)) for language, prompt in prompts]
    assert len(found) > 5_000
    assert all(one is None or one == language for language, one in found)
    assert sum(one is None for _, one in found) < 0.01 * len(found)
