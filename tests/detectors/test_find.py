"""What is a confusion and where it begins: one case per rule, written for this test."""

from __future__ import annotations

import pytest

from detectors import English, find, language, spans

CONFUSED = [
    # language, English setting, text with the confusion's first character after ▸, script
    ("ko", "neutral", "프랑스의 수도는 ▸Париж 입니다.", "Cyrillic"),
    ("ko", "neutral", "요▸所로 작용합니다", "Han"),
    ("ko", "neutral", "수도는 ▸ελληνικά 입니다", "Greek"),
    ("ko", "neutral", "그것은 ▸không 그렇다.", "Latin"),
    ("ko", "neutral", "이것은 ▸oder 저것은", "Latin"),
    ("ko", "neutral", "그는 this is ▸la méthode 라고", "Latin"),
    ("ko", "neutral", "그는 ▸tornillo también 라고", "Latin"),
    ("ko", "neutral", "```python\n# ▸说明\n```", "Han"),
    ("ko", "neutral", "가\x00▸я", "Cyrillic"),
    ("ko", "confusion", "그는 ▸book 을 읽었다", "Latin"),
    ("ko", "confusion", "Samsung 은 ▸company 이다", "Latin"),
    ("ko", "confusion", "다▸iversity 접근", "Latin"),
    ("ko", "confusion", "그는 ▸a book 을", "Latin"),
    ("ko", "confusion", "가격은 $5 ~ $10, ▸tax 별도", "Latin"),
    ("zh", "neutral", "我喜欢▸ラーメン和米饭", "Katakana"),
    ("zh", "neutral", "以下是 ▸plusieurs 方法", "Latin"),
    ("zh", "neutral", "这是 ▸façonné 的", "Latin"),
    ("ja", "neutral", "これは▸问题です", "Han"),
    ("ja", "neutral", "テストは▸시험です", "Hangul"),
    ("ja", "confusion", "これはオー▸ganic食品です", "Latin"),
    ("ar", "neutral", "هذه ▸کتاب جديدة", "Arabic"),
    ("ar", "neutral", "الم▸úsica جميلة", "Latin"),
    ("ko", "neutral", "이것은 ▸una casa 이다", "Latin"),
    ("ko", "neutral", "소개: ▸un article de blog sur 한국", "Latin"),
    ("ko", "neutral", "12 ▸freelancere byder i gennemsnit $24 på dette job", "Latin"),
    ("ko", "neutral", "구조 모델 ▸cantidad", "Latin"),
    ("hi", "neutral", "बन▸ḍ़ी", "Latin"),
    ("ja", "neutral", "例：▸因此，支持中学生的学习。", "Han"),
    ("ko", "confusion", "Here's ▸a 500-word 글", "Latin"),
    ("ko", "confusion", "Thompson, ▸a 55-year-old 남자", "Latin"),
    ("ko", "confusion", "<▸bullet points>", "Latin"),
    ("ko", "neutral", "그곳은 ▸einem Ort ähnlich 하다", "Latin"),
    ("ja", "neutral", "これは▸我們の学校です", "Han"),
    ("ru", "neutral", "Он сказал: людина ▸добрі", "Cyrillic"),
    ("ru", "neutral", "Он сказал: ▸қазақша", "Cyrillic"),
    ("uk", "neutral", "Він сказав: ▸это правда", "Cyrillic"),
    ("kk", "neutral", "Ол ▸їхати деді", "Cyrillic"),
    ("fa", "neutral", "این ▸ہے کتاب", "Arabic"),
    ("ur", "neutral", "یہ ▸ښه کتاب ہے", "Arabic"),
    ("hi", "neutral", "यह ▸книга है", "Cyrillic"),
    ("hi", "confusion", "यह ▸book है", "Latin"),
    ("bn", "neutral", "এটা ▸ৰাম", "Bengali"),
    ("ne", "neutral", "यो ▸கிதாப் हो", "Tamil"),
    ("th", "confusion", "ฉัน ▸like ข้าว", "Latin"),
    ("he", "neutral", "שלום ▸мир עולם", "Cyrillic"),
    ("el", "neutral", "Το ▸слово είναι", "Cyrillic"),
    ("vi", "neutral", "Xin chào ▸您 bạn", "Han"),
    ("sw", "neutral", "Habari ▸мир yako", "Cyrillic"),
]

CLEAN = [
    ("ko", "neutral", "Sure, here is the answer in plain English."),
    ("ko", "neutral", "Beyoncé와 São Paulo, Tōkyō, naïve, can’t, oﬃce"),
    ("ko", "neutral", "θ와 αβ, 10 μg, ½컵, ⑯번, ❶, 1️⃣ ☀️ Å K Ⅻ ª º"),
    ("ko", "neutral", "| ɛ œ | /kæt/ ˈhæpi [bɛt] ø |"),
    ("ko", "neutral", "https://ru.wikipedia.org/wiki/Россия 참고"),
    ("ko", "neutral", "¯\\_(ツ)_/¯"),
    ("ko", "neutral", "가\ud800\udce4\ufffd나"),
    ("ko", "neutral", "끝이 잘린 und"),
    ("ko", "confusion", "https://example.com/~user#top 과 example.com/path, me.you@example.com"),
    ("ko", "confusion", "print() get_value(x) range(3) sum(a, b) `code here` ```\nfor x in y\n``` 끝"),
    ("ko", "confusion", "\\alpha + \\( ab \\) $mc^2 + dx$ <br> <a href=x>"),
    ("ko", "confusion", "60 km/h, 5kg, 30 min, 200kcal, 2FA, iPhone, _Samsung_, x y z, iv) 넷째, e스포츠"),
    ("zh", "neutral", "ㄅㄆㄇ 和 ｃｐｕ，他（tuò）shēngdàn xī'ān lǜ"),
    ("zh", "confusion", "跅（tuò）弛之士"),
    ("ja", "neutral", "〇〇株式会社 佐々木 〆切 剝 髙 ﾃｽﾄ ㈱ kyōsan"),
    ("ar", "neutral", "ڤيديو من إنگلترا وپاريس ﷺ ١٢٣"),
    ("hi", "neutral", "उसने jawab दिया, ekonomik बात"),
    ("ar", "neutral", "مُتَحawalة"),
    ("zh", "confusion", "我的最爱 Wǒ de zuì ài"),
    ("ko", "confusion", "<br> <custom-tag> <item id=x> 120 bpm, 2 tsp, 5 kWh/day, youtu.be/x, mailto:a@b.com, &nbsp;"),
    ("ja", "neutral", "東京都、大阪府、具体的内容（慶應義塾大学）"),
    ("ko", "neutral", "los angeles 와 las vegas"),
    ("ko", "neutral", "피에로 Piero della Francesca 와 Frankfurt am Main"),
    ("ko", "neutral", "공식 $x_1 = \\alpha + y$ 과 $$ E = mc^2 $$"),
    ("zh", "neutral", "繁體字與简体字都是中文。"),
    ("hi", "neutral", "sitārā और jñāna संस्कृत शब्द हैं"),
    ("ru", "neutral", "За́мок ъ Ёлка, «ѣ» и 5 км"),
    ("uk", "neutral", "Об'єднання, ґанок, їжак"),
    ("kk", "neutral", "Қазақ тілінде сөйлеймін, ұлт, һәм"),
    ("fa", "neutral", "این کتاب خوبی است و من آن را می\u200cخوانم"),
    ("ur", "neutral", "یہ ایک اچھی کتاب ہے۔ ڑ ٹ ڈ"),
    ("he", "neutral", "שָׁלוֹם עולם, בית־ספר"),
    ("el", "neutral", "Καλημέρα σε όλους, ᾳ ᾠδή"),
    ("bn", "neutral", "এটি একটি ভালো বই। ১২৩"),
    ("th", "neutral", "สวัสดีครับ hello ทุกคน ๑๒๓"),
    ("vi", "neutral", "Xin chào các bạn, hôm nay trời đẹp quá."),
    ("tr", "neutral", "Bugün hava çok güzel, ağaç ve ışık."),
    ("de", "neutral", "Das Café in Zürich heißt „Crème brûlée“."),
    ("en", "neutral", "A naïve façade; she said hola, c'est la vie."),
]


@pytest.mark.parametrize(("code", "english", "marked", "kind"), CONFUSED)
def test_a_confusion_begins_at_its_first_character(code: str, english: English, marked: str, kind: str) -> None:
    text = marked.replace("▸", "")
    finding = find(text, language(code, english))
    assert finding is not None
    assert (finding.start, finding.kind) == (marked.index("▸"), kind)
    assert text[finding.start : finding.end] == finding.text


@pytest.mark.parametrize(("code", "english", "text"), CLEAN)
def test_exempt_text_is_clean(code: str, english: English, text: str) -> None:
    assert spans(text, language(code, english)) == []


def test_the_prefix_is_context_but_never_the_confusion() -> None:
    korean = language("ko", "confusion")
    assert find("km 입니다", korean, prefix="거리는 60 ") is None
    assert find("ython 입니다", korean, prefix="P") is None
    assert find(" 입니다", korean, prefix="그는 book") is None
    ending = find("ook 입니다", korean, prefix="그는 b")
    assert ending is not None
    assert (ending.start, ending.text) == (0, "ook")


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("수도는 Пари", True),
        ("그는 book", False),
        ("그는 book ", True),
        ("그는 book.", False),
        ("그는 print(", False),
        ("그는 print(을", True),
        ("그는 $word ", False),
        ("그는 a b", False),
        ("그는 a bo", True),
        ("그는 book\udced", False),
    ],
)
def test_in_unfinished_text_only_certain_confusions_are_found(text: str, certain: bool) -> None:
    assert (find(text, language("ko", "confusion"), final=False) is not None) is certain


def test_spans_lists_all_confusions_in_order() -> None:
    text = "프랑스 Париж 그리고 長期 계획"
    assert [(span.text, span.kind) for span in spans(text, language("ko"))] == [
        ("Париж", "Cyrillic"),
        ("長期", "Han"),
    ]


def test_a_passage_is_found_once_even_if_the_scan_has_to_stay_left_of_its_end() -> None:
    passage = "Het is een mooie dag en ik ga naar huis"
    text = f"книга {passage}!(www.#`.Wǒ-{passage}!"
    findings = spans(text, language("id", "confusion"))
    assert [finding.text for finding in findings] == ["книга", passage], "the backtick begins code"
