"""Open questions about countries, languages and currencies, in ten languages, for models that can answer them.

Their names come from CLDR, through `babel`. They follow a colon or stand alone, so that none needs an article or a
case. Every fourth country, language and currency is held out: a run is never asked about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from babel import Locale

from tlpo_ray.quickstart.world import CURRENCIES

HELD_OUT_EVERY = 4
"""Every so many countries, languages and currencies are held out."""
COUNTRIES = (
    "AR", "AU", "BE", "BO", "BR", "CA", "CL", "CN", "CO", "CU", "CZ", "DE", "DK", "EC", "EG", "ES", "ET", "FI", "FR",
    "GB", "GR", "HU", "ID", "IE", "IL", "IN", "IS", "IT", "JP", "KE", "KR", "MA", "MG", "MN", "MX", "NG", "NO", "NP",
    "NZ", "PE", "PH", "PL", "PT", "RO", "SE", "SN", "TH", "TR", "UA", "US", "UY", "VE", "VN", "ZA",
)  # fmt: skip
"""ISO 3166 codes."""
TONGUES = (
    "ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "eu", "fa", "fi", "fr", "hi", "hu", "id", "is", "it", "ja",
    "ko", "nl", "pl", "pt", "ro", "ru", "sv", "sw", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
"""Codes of the languages that are asked about."""

_TEMPLATES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "ar": (
        (
            "صف هذا البلد في فقرة واحدة: {name}.",
            "حدثني عن تاريخ هذا البلد: {name}.",
            "وجهة السفر: {name}. ما الأماكن التي تنصح بزيارتها؟",
            "اكتب رسالة قصيرة إلى صديق سينتقل إلى هذا البلد: {name}.",
            "البلد: {name}. كيف هو المناخ هناك؟",
        ),
        ("اللغة: {name}. أين يتحدث بها الناس؟", "اذكر ثلاث نصائح لتعلم هذه اللغة: {name}."),
        ("العملة: {name}. أين تستخدم، وماذا يمكن شراؤه بها؟",),
    ),
    "de": (
        (
            "Beschreibe dieses Land in einem Absatz: {name}.",
            "Erzähle mir etwas über die Geschichte dieses Landes: {name}.",
            "Reiseziel: {name}. Welche Orte sollte man dort besuchen?",
            "Schreibe einen kurzen Brief an einen Freund, der in dieses Land zieht: {name}.",
            "Land: {name}. Wie ist dort das Klima?",
        ),
        (
            "Sprache: {name}. Wo wird sie gesprochen, und von wem?",
            "Gib drei Ratschläge, wie man diese Sprache lernt: {name}.",
        ),
        ("Währung: {name}. Wo wird sie verwendet, und was kann man damit kaufen?",),
    ),
    "en": (
        (
            "Describe this country in one paragraph: {name}.",
            "Tell me something about the history of this country: {name}.",
            "Destination: {name}. Which places should I visit there?",
            "Write a short letter to a friend who is moving to this country: {name}.",
            "Country: {name}. What is the climate like there?",
        ),
        (
            "Language: {name}. Where is it spoken, and by whom?",
            "Give me three pieces of advice on how to learn this language: {name}.",
        ),
        ("Currency: {name}. Where is it used, and what can you buy with it?",),
    ),
    "es": (
        (
            "Describe este país en un párrafo: {name}.",
            "Cuéntame algo sobre la historia de este país: {name}.",
            "Destino de viaje: {name}. ¿Qué lugares me recomiendas visitar?",
            "Escribe una carta breve a un amigo que se va a vivir a este país: {name}.",
            "País: {name}. ¿Cómo es el clima allí?",
        ),
        ("Idioma: {name}. ¿Dónde se habla y quién lo habla?", "Da tres consejos para aprender este idioma: {name}."),
        ("Moneda: {name}. ¿Dónde se usa y qué se puede comprar con ella?",),
    ),
    "fr": (
        (
            "Décris ce pays en un paragraphe : {name}.",
            "Raconte-moi un peu l’histoire de ce pays : {name}.",
            "Destination de voyage : {name}. Quels lieux me conseilles-tu de visiter ?",
            "Écris une courte lettre à un ami qui part vivre dans ce pays : {name}.",
            "Pays : {name}. Comment est le climat là-bas ?",
        ),
        (
            "Langue : {name}. Où la parle-t-on, et qui la parle ?",
            "Donne trois conseils pour apprendre cette langue : {name}.",
        ),
        ("Monnaie : {name}. Où l’utilise-t-on, et que peut-on acheter avec ?",),
    ),
    "it": (
        (
            "Descrivi questo paese in un paragrafo: {name}.",
            "Raccontami qualcosa della storia di questo paese: {name}.",
            "Meta di viaggio: {name}. Quali luoghi mi consigli di visitare?",
            "Scrivi una breve lettera a un amico che si trasferisce in questo paese: {name}.",
            "Paese: {name}. Com’è il clima laggiù?",
        ),
        ("Lingua: {name}. Dove si parla, e chi la parla?", "Dammi tre consigli per imparare questa lingua: {name}."),
        ("Valuta: {name}. Dove si usa, e che cosa ci si può comprare?",),
    ),
    "ja": (
        (
            "次の国を一段落で紹介してください：{name}。",
            "次の国の歴史について話してください：{name}。",
            "旅行先：{name}。どこを訪れるとよいですか？",
            "次の国に引っ越す友人に短い手紙を書いてください：{name}。",
            "国：{name}。そこの気候はどうですか？",
        ),
        ("言語：{name}。どこで、誰が話していますか？", "次の言語を学ぶためのこつを三つ教えてください：{name}。"),
        ("通貨：{name}。どこで使われ、何が買えますか？",),
    ),
    "ko": (
        (
            "다음 나라를 한 단락으로 소개해 주세요: {name}.",
            "다음 나라의 역사를 이야기해 주세요: {name}.",
            "여행지: {name}. 어떤 곳을 가 보면 좋을까요?",
            "다음 나라로 이사하는 친구에게 짧은 편지를 써 주세요: {name}.",
            "나라: {name}. 그곳의 기후는 어떤가요?",
        ),
        ("언어: {name}. 어디에서 누가 쓰나요?", "다음 언어를 배우는 방법을 세 가지 알려 주세요: {name}."),
        ("통화: {name}. 어디에서 쓰이고, 이 돈으로 무엇을 살 수 있나요?",),
    ),
    "pt": (
        (
            "Descreva este país em um parágrafo: {name}.",
            "Conte-me algo sobre a história deste país: {name}.",
            "Destino de viagem: {name}. Que lugares você recomenda visitar?",
            "Escreva uma carta curta para um amigo que vai morar neste país: {name}.",
            "País: {name}. Como é o clima lá?",
        ),
        ("Idioma: {name}. Onde é falado, e por quem?", "Dê três conselhos para aprender este idioma: {name}."),
        ("Moeda: {name}. Onde é usada, e o que se pode comprar com ela?",),
    ),
    "zh": (
        (
            "请用一段话介绍这个国家：{name}。",
            "请讲讲这个国家的历史：{name}。",
            "旅行目的地：{name}。有哪些地方值得去？",
            "请给一位要搬到这个国家的朋友写一封简短的信：{name}。",
            "国家：{name}。那里的气候怎么样？",
        ),
        ("语言：{name}。在哪里使用，谁在说？", "请给出学习这种语言的三条建议：{name}。"),
        ("货币：{name}。在哪里使用，能买到什么？",),
    ),
}  # fmt: skip
"""Language → questions about a country, about a language and about a currency."""
LANGUAGES = tuple(_TEMPLATES)
"""Languages that questions can be asked in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """A question with many good answers.

    Example: ``OpenQuestion(id="es-PE-0", language="es", text="Describe este país en un párrafo: Perú.")``
    """

    id: str
    """Language, code of the country, language or currency, and number of the template."""
    language: str
    text: str

    def to_row(self) -> dict[str, object]:
        """Return the question as a line of a prompt file."""
        return {"id": self.id, "language": self.language, "prompt": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestions:
    """Questions of a run, and others to compare the model by before and after it."""

    asked: tuple[OpenQuestion, ...]
    held_out: tuple[OpenQuestion, ...]
    """Questions about countries, languages and currencies that `asked` never names."""


def open_questions(languages: Sequence[str], seed: int) -> OpenQuestions:
    """Return all questions in some languages, shuffled by a seed; the languages are mixed.

    Args:
        languages: Some of `LANGUAGES`.
        seed: Seed of the order.
    """
    random = Random(seed)
    parts = []
    for held_out in (False, True):
        questions = [question for language in languages for question in _questions(language, held_out)]
        random.shuffle(questions)
        parts.append(tuple(questions))
    return OpenQuestions(asked=parts[0], held_out=parts[1])


def _questions(language: str, held_out: bool) -> Iterator[OpenQuestion]:
    locale = Locale.parse(language)
    about = (
        (COUNTRIES, locale.territories),
        (TONGUES, locale.languages),
        (tuple(CURRENCIES.values()), locale.currencies),
    )
    for templates, (codes, names) in zip(_TEMPLATES[language], about, strict=True):
        for place, code in enumerate(codes, start=1):
            if (place % HELD_OUT_EVERY == 0) == held_out:
                for number, template in enumerate(templates):
                    yield OpenQuestion(
                        id=f"{language}-{code}-{number}", language=language, text=template.format(name=names[code])
                    )
