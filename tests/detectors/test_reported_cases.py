"""Cases that users of similar tools have reported, each with others of its kind: what is found, and what is clean."""

from __future__ import annotations

import pytest

from detectors import English, Stream, UnknownLanguageError, find, language, language_code, selected, spans

FOUND = [
    # language, English setting, text with the confusion's first character after ▸
    # An address ends where the text behind it begins.
    ("ko", "neutral", "자세한 내용은 [문서](https://example.com/docs)를▸參考하세요."),
    ("zh", "neutral", "文档在https://example.com/docs里面有▸подробный说明。"),
    ("zh", "neutral", "见 https://example.com。▸Подробно 说明"),
    ("ko", "neutral", "www.example.com에서▸參考하세요"),
    ("ko", "neutral", "메일은 a.b@example.com로▸參考하세요"),
    ("ko", "neutral", "**https://example.com/a**를▸參考"),
    ("ko", "neutral", "| https://example.com/a |▸參考 |"),
    ("ko", "neutral", "https://ko.wikipedia.org/wiki/서울▸подробно"),
    ("ru", "neutral", "Смотри https://example.com/docs▸를 참고"),
    ("ko", "neutral", "example.com.▸Подробно"),
    # Japanese without the forms that only Chinese has.
    ("ja", "neutral", "この▸关系は難しい"),
    ("ja", "neutral", "▸价值を認める"),
    ("ja", "neutral", "▸你好と言う"),
    ("ja", "neutral", "▸她は学生です"),
    # Code ends with its fence, mathematics with its environment, a phrase with its last word.
    ("ko", "confusion", "~~~bash\nls -la\n~~~\n끝 ▸word"),
    ("ko", "confusion", "````md\n```\na bc\n```\n````\n▸word"),
    ("ko", "confusion", "그는 ~~~ ▸word 라고"),
    ("ko", "confusion", "\\begin{align} dx \\end{align} ▸word"),
    ("ko", "confusion", "\\textbf{▸word}"),
    ("ko", "neutral", "이것은 ▸je ne sais pas 이다"),
    # Symbols that are words of one script.
    ("ko", "neutral", "이것은 ▸⼤ 사건이다"),
    ("ko", "neutral", "5▸㌔"),
    ("ja", "neutral", "▸㈎ です"),
    ("ko", "neutral", "▸㍻ 시대"),
    # Brackets without a face, and words beside one.
    ("ko", "neutral", "그는 (▸я) 라고"),
    ("ko", "neutral", "그는 (▸т.е.) 라고"),
    ("ko", "neutral", "그는 (*▸привет*) 라고"),
    ("ko", "neutral", "좋아요 (･ω･) ▸привет"),
    ("ko", "neutral", "▸プンスカ(｀ω´)"),
    # Chinese in the other writing; what both have is no evidence.
    ("zh-Hans", "neutral", "我们先看问题。然▸後回到當下。"),
    ("zh-CN", "neutral", "这▸個问题很简单"),
    ("zh-Hant", "neutral", "我們先看問題。然後回到▸当下。"),
    ("zh-TW", "neutral", "▸这個問題很簡單"),
    ("zh-HK", "neutral", "這個▸实驗"),
    ("zh-Hans", "neutral", "安全▸な方法"),
    ("zh-Hans", "neutral", "软件▸実装"),
]
CLEAN = [
    # Phrases with a particle glued to them, names behind characters, units in superscripts, environments.
    ("ko", "neutral", "삶의 raison d'être는 무엇인가요."),
    ("ko", "neutral", "그는 foie gras를 먹었습니다."),
    ("zh", "neutral", "法国foie gras是一道菜"),
    ("zh", "neutral", "德国Bundesministerium für Bildung发布了报告。"),
    ("ko", "neutral", "Museum voor Kunsten을 방문했습니다."),
    ("ko", "confusion", "농도는 2×10⁻⁶ mol입니다."),
    ("ko", "confusion", "출력은 150 hp, 에너지는 5 MeV입니다."),
    ("ko", "neutral", "길이의 단위 angström은 작습니다."),
    ("ko", "neutral", "https://ru.wikipedia.org/wiki/Россия 참고"),
    ("ko", "neutral", "https://пример.рф/путь?q=слово#часть 참고"),
    ("ko", "neutral", "https://ru.wikipedia.org/wiki/Питон_(язык) 참고"),
    ("ko", "neutral", "[링크](https://ja.wikipedia.org/wiki/東京タワー)를 보세요"),
    ("ja", "neutral", "中国の深圳は電子部品の街です。四物湯は当帰・川芎・芍薬からなる。"),
    ("ja", "neutral", "黄芩、薏苡仁、豆豉醤、麻婆豆腐、回鍋肉、青椒肉絲、咖喱ではなくカレー、鄧小平、廣州"),
    (
        "ko",
        "confusion",
        "배기량 2000cc, 5 ng/mL, 3 nmol/L, 100mbps, 8bit, 5 kgf, 3 pg, 2.4ghz, 760 torr, 300 lux, 64 bytes",
    ),
    ("ko", "confusion", "10 pcs, 3 μmol, ½ tsp, 5-km, １０ kg, 120/80 mmhg, 3 acres, 12 knots, 5 psi"),
    ("ar", "confusion", "السرعة ١٠٠ mbps والوزن ٥ kg"),
    ("ko", "confusion", "~~~bash\nls -la\n~~~\n끝"),
    ("ko", "confusion", "````md\n```python\nprint('abc')\n```\n````\n끝"),
    ("ko", "confusion", "```python\nx = '```' # abc\nprint(x)\n```\n끝"),
    ("ko", "confusion", "> ```sh\n> ls the\n> ```\n끝"),
    ("ko", "confusion", "1. ```sh\n   ls the\n   ```\n끝"),
    ("ko", "confusion", "코드: ```ls the\nls``` 끝"),
    ("ko", "confusion", "\\begin{align} dx &= vdt \\end{align} 끝"),
    ("ko", "confusion", "\\begin{cases} x & \\text{if } y \\\\ ab & \\text{else} \\end{cases} 끝"),
    ("ko", "confusion", "\\begin{equation*}ab\\end{equation*} \\frac{dx}{dt^{ab}} \\mathrm{sin}"),
    ("ja", "neutral", "提案：Institut für Raumplanung（IfR）は研究機関です。"),
    (
        "ko",
        "neutral",
        "Sturm und Drang 운동, Institut für Physik, Fundação para a Ciência, Banque et Caisse",
    ),
    (
        "ko",
        "neutral",
        "쿠데타(coup d'état), doppelgänger, smörgåsbord, raison d’être, hors d'œuvre, foie gras, papier-mâché",
    ),
    ("ko", "neutral", "allegro ma non troppo 연주"),
    ("ko", "neutral", "그 je ne sais quoi 느낌"),
    ("ko", "neutral", "pas de deux 와 sotto voce 그리고 Crème de la Crème"),
    ("ko", "neutral", "음계는 do re mi fa sol la si do 이다"),
    ("ja", "neutral", "音階は do re mi fa sol la si do です。"),
    ("zh", "neutral", "⼤ 是部首，也写作大"),
    ("zh-Hans", "neutral", "皇后在后面，干净的里面，乾坤，著名，长征，头发，发现，吒"),
    ("zh-Hant", "neutral", "皇后在後面，乾淨的裡面，乾坤，著名，長征，頭髮，發現，雇主，群眾，山峰，床，台灣"),
    ("zh", "neutral", "我们先看问题。然後回到當下。"),
]
FACES = (
    "(･ㅅ･) (ฅ´ω`ฅ) ヽ(´▽`)ノ ಠ_ಠ (｀Д´) (•̀ω•́) ﾌﾟﾝﾌﾟﾝ(｀ω´) (#｀皿´) (ﾟ皿ﾟ) (っ`ω´c) 凸(-_-#) ヽ(#｀Д´)ﾉ "
    "(ﾉ｀⊿´)ﾉ (´･ω･`)ﾌﾞｽｯ (๑•̀ㅂ•́)و✧ (づ￣³￣)づ ლ(ಠ益ಠლ) ʕ•ᴥ•ʔ (ツ) ¯\\_(ツ)_/¯ (>д<) (TдT) (一_一) ༼つಥ_ಥ༽つ ᕕ(ᐛ)ᕗ "
    "(oдo) (^д^) (^人^) （´；ω；`） (ง'̀-'́)ง ⊂(・ヮ・⊂) (=ΦωΦ=) (´･(ｪ)･`) (｀(エ)´) (个_个) °Д° ಠoಠ (/Д｀) U^ｴ^U "
    "૮˶ᵔᵕᵔ˶ა ૮(˶ᵔᵕᵔ˶)ა (´・ω・)っ由 (∩´∀`)∩ﾜｰｲ ｷﾀ━━(ﾟ∀ﾟ)━━ｯ!! ﾑｶ-(#｀ω´) (T-T)尸 ༼ºل͟º༽ (۶ૈ▱۶)ૈ"
)
NO_FACES = [
    # words and letters beside signs and faces that are no drawing, the foreign one after ▸
    ("ko", "잘했어요 (^_^) ▸молодец"),
    ("ko", "잘했어요 (^_^)▸молодец"),
    ("ko", "잘했어요 ▸молодец(^_^)"),
    ("ko", "잘했어요 (▸дед)"),
    ("ko", "글자 ▸д"),
    ("ko", "글자(▸д)는"),
    ("ko", "(2)▸д"),
    ("ko", "변수 ▸а_б"),
    ("ko", "변수 ▸а_а1"),
    ("ko", "`▸д`입니다"),
    ("ko", "(a (▸я) b)"),
    ("ko", "안녕 ▸प्रिय"),
    ("ru", "Хорошо (^_^)▸很好"),
    ("ru", "Слово ▸ΦωΦη"),
    ("zh", "很好 ▸プンスカ(｀ω´)"),
]


@pytest.mark.parametrize(("code", "marked"), NO_FACES)
def test_a_word_beside_a_face_is_still_a_word(code: str, marked: str) -> None:
    text, start = marked.replace("▸", ""), marked.index("▸")
    detector = language(code)
    found = find(text, detector)
    assert found is not None and found.start == start
    stream = Stream(detector)
    streamed = next((early for char in text if (early := stream.feed(char))), None) or stream.close()
    assert streamed is not None and streamed.start == start


@pytest.mark.parametrize(("code", "english", "marked"), FOUND)
def test_a_reported_confusion_is_found_where_it_begins(code: str, english: English, marked: str) -> None:
    text = marked.replace("▸", "")
    detector = language(code, english)
    finding = find(text, detector)
    assert finding is not None and finding.start == marked.index("▸")
    stream = Stream(detector)
    streamed = next((found for char in text if (found := stream.feed(char))), None) or stream.close()
    assert streamed is not None and streamed.start == finding.start


@pytest.mark.parametrize(("code", "english", "text"), CLEAN)
def test_a_reported_false_alarm_is_clean(code: str, english: English, text: str) -> None:
    detector = language(code, english)
    assert spans(text, detector) == []
    stream = Stream(detector)
    assert not any(stream.feed(char) for char in text) and stream.close() is None


@pytest.mark.parametrize("face", FACES.split(" "))
@pytest.mark.parametrize("sentence", ["ko 잘했어요", "zh 很好", "ru Хорошо", "ar جيد", "en Great", "ja いいね"])
def test_a_face_drawn_with_letters_is_no_word(face: str, sentence: str) -> None:
    code, words = sentence.split(" ")
    text = f"{words} {face} {words}"
    assert spans(text, language(code)) == []
    stream = Stream(language(code))
    assert not any(stream.feed(char) for char in text) and stream.close() is None


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("ko Korean KOREAN ko-KR ko_KR ko_KR.UTF-8 kor 한국어 ko-Kore-KR", "ko"),
        ("zh Chinese zho chi cmn 中文 Mandarin", "zh"),
        ("zh-Hans zh_CN zh-SG chs zh-Hans-CN 简体中文 simplified_chinese Chinese_(Simplified) cmn-Hans", "zh-Hans"),
        ("zh-Hant zh_TW zh-HK zh-Hant-HK cht 繁體中文 Traditional-Chinese zh-MO zh_TW.Big5", "zh-Hant"),
        ("pt pt-BR pt_PT Portuguese por Brazilian-Portuguese", "pt"),
        ("he iw Hebrew heb he-IL", "he"),
        ("en english en-US eng", "en"),
    ],
)
def test_a_language_goes_by_many_names(names: str, code: str) -> None:
    assert {language_code(name) for name in names.split()} == {code}
    assert language(names.split()[-1]) is language(code)


def test_an_unknown_language_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownLanguageError, match=r"'Koreen'.*nearest: ko;"):
        language("Koreen")


def test_chinese_covers_both_writings_and_each_writing_only_itself() -> None:
    assert selected("zh-TW", ["ko", "zh"]) == "zh"
    assert selected("zh", ["zh-Hant"]) is None
    assert selected("Korean", ["ko"]) == "ko"
    assert selected("klingon", ["klingon"]) == "klingon"
