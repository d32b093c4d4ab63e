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
    ("ja", "neutral", "▸补骨脂という植物"),
    ("ja", "neutral", "▸开始する"),
    ("ja", "neutral", "▸⻳という字"),
    # A sentence with names of institutions in it is a sentence; so is one whose nouns have capitals.
    ("ko", "neutral", "▸El Presidente fue a la Universidad para la Reunión 라고"),
    ("ko", "neutral", "▸La Universidad es para la Gente que quiere estudiar 라고"),
    ("en", "neutral", "She left. ▸El Presidente de la República fue a la Ciudad con los Ministros."),
    ("de", "neutral", "Sie ging. ▸La Universidad de las Artes es la más antigua del país."),
    ("ko", "neutral", "그는 Institut für Physik ▸und er arbeitet dort 라고"),
    ("ko", "neutral", "Der Mann ▸und die Frau"),
    ("ko", "neutral", "Mit ▸der Zeit werden die Menschen in der Stadt krank"),
    ("ko", "neutral", "그는 ▸la casa de los Padres es muy bonita 라고"),
    ("ja", "neutral", "▸Le Ministère a dit que nous ne sommes pas dans la ville"),
    ("ko", "confusion", "Ministry ▸in London"),
    ("ar", "confusion", "As ▸an AI chatbot, I have"),
    # Words that are units behind a number only, and words beside units.
    ("ko", "confusion", "▸in 단위"),
    ("ko", "confusion", "단위는 ▸me 이다"),
    ("ko", "confusion", "그는 ▸a kg 라고"),
    ("ko", "confusion", "▸us 단위"),
    ("ko", "confusion", "속도는 ▸tokens/s 이다"),
    ("ko", "confusion", "km 거리 ▸and kg 무게"),
    ("ko", "confusion", "▸mm-wave 대역"),
    ("ko", "confusion", "파일은 ▸km_x 이다"),
    ("ja", "confusion", "▸ｉｎ単位で"),
    ("ko", "neutral", "그는 2 ▸años 라고"),
    ("ko", "neutral", "3 ▸mètres 거리"),
    # Words beside a face.
    ("ko", "neutral", "좋아 (▸見て・ω・)"),
    ("ko", "neutral", "좋아 (・ω・▸見て)"),
    ("en", "neutral", "Great (▸見て´・д・`)"),
    ("zh", "neutral", "很好 (見▸て・ω・)"),
    ("ja", "neutral", "いいね (▸смотри・д・)"),
    ("ko", "neutral", "도시 (안녕 *▸я* 친구) 이다"),
    ("ko", "neutral", "도시 (서울·부산)▸я 이다"),
    ("ru", "neutral", "да ▸ㅇㅅㅇ"),
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
    # Radicals, compatibility ideographs and squared words are judged as what they stand for.
    ("zh-Hans", "neutral", "这▸⾞很快"),
    ("zh-Hans", "neutral", "那匹▸⾺"),
    ("zh-Hans", "neutral", "这▸\uf902很快"),
    ("zh-Hant", "neutral", "這是▸⻳"),
    ("zh-Hant", "neutral", "這是▸㍿"),
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
    ("ar", "confusion", "الحرارة ٥- و٣٫٥- و٥٪- و٣٫٥-٪، ٥- kg و٣٫٥- bar و٥−bar"),
    ("ja", "confusion", "距離は５０ｋｍで、長さ１２ｃｍ×３ｍｍ、容量３ＧＢ、速度１００ｋｍ／ｈ、面積２０ｍ２、５ ｋｇ"),
    ("ko", "confusion", "５００ｍｌ, ７０ｋｇ, ２４ｂｉｔ, １００ｍ／ｓｅｃ"),
    ("ko", "confusion", "속도는 km/h로, 단위는 kg입니다. kWh당 가격, 농도는 mg/dL이고 mol/L, 원/kWh, 회/min, ha당"),
    ("ko", "confusion", "cm²당, kg/m³, μmol/L, (mm), 단위: kg, cm, ppm, px, mg/kg/day, kgf·cm, bar/min, kbps"),
    ("ja", "confusion", "単位はkgです。単位は km です。ｋｍ単位で測る。"),
    ("zh", "confusion", "单位是kg，每kWh的价格，km/h"),
    ("ru", "confusion", "скорость в km/h и mmol/L"),
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
    (
        "ko",
        "neutral",
        "그는 Universidad de las Artes에서, Instituto Nacional para la Evaluación de la Educación에서 공부했다.",
    ),
    ("ja", "neutral", "彼はUniversidad de las Artesで、Ministero per la Semplificazione Normativaで働いた。"),
    ("zh", "neutral", "他在Organización de las Naciones Unidas para la Educación, la Ciencia y la Cultura工作。"),
    (
        "en",
        "neutral",
        "She joined the Ministero per la Semplificazione Normativa e la Pubblica Amministrazione in 2009.",
    ),
    ("de", "neutral", "Er arbeitet beim Instituto Nacional para la Evaluación de la Educación in Mexiko."),
    ("es", "neutral", "Trabajó en el Bundesamt für Sicherheit in der Informationstechnik hasta 2011."),
    ("ko", "neutral", "Deutsches Zentrum für Luft- und Raumfahrt"),
    ("ko", "neutral", "Hochschule für die Künste, Walther von der Vogelweide"),
    ("ko", "neutral", "Ministère de l'Éducation et de la Jeunesse, Organisation pour l'Interdiction des Armes"),
    (
        "ko",
        "neutral",
        "Vrije Universiteit voor de Kunsten, Fundação para a Ciência e a Tecnologia, Die Entführung aus dem Serail",
    ),
    ("ru", "neutral", "Он работал в École des Hautes Études en Sciences Sociales и в Ordre des Arts et des Lettres."),
    ("ko", "confusion", "그는 Universidad de las Artes 와 Institut für Physik 에서 공부했다."),
    ("ko", "neutral", "그 je ne sais quoi 느낌"),
    ("ko", "neutral", "pas de deux 와 sotto voce 그리고 Crème de la Crème"),
    ("ko", "neutral", "음계는 do re mi fa sol la si do 이다"),
    ("ja", "neutral", "音階は do re mi fa sol la si do です。"),
    ("ja", "neutral", "菝葜や鼹鼠、苷、榀、珏、桕、畲、部首の扌と氵"),
    ("zh-Hans", "neutral", "⼤ 和 ⾏ 是部首"),
    ("zh-Hant", "neutral", "這\u2f9e很快，\uf902，⾺，⿓"),
    ("zh", "neutral", "⾞ 和车"),
    ("zh", "neutral", "⼤ 是部首，也写作大"),
    ("ja", "neutral", "いいね (見て・ω・) (見てね・д・) (・д・見てね)"),
    ("ru", "neutral", "Хорошо (смотри・ω・)ノ да (смотри ´ｪ`) да (見・ω・)"),
    ("zh", "neutral", "很好 (看看・д・) (・д・看看)"),
    ("ko", "neutral", "좋아 (봐봐・д・) 네"),
    ("en", "neutral", "Great (look・д・) day"),
    ("ru", "neutral", "да ᄽὁȍ ̪őὀᄿ"),
    ("zh-Hans", "neutral", "皇后在后面，干净的里面，乾坤，著名，长征，头发，发现，吒"),
    ("zh-Hant", "neutral", "皇后在後面，乾淨的裡面，乾坤，著名，長征，頭髮，發現，雇主，群眾，山峰，床，台灣"),
    ("zh", "neutral", "我们先看问题。然後回到當下。"),
]
FACES = (
    "(･ㅅ･) (ฅ´ω`ฅ) ヽ(´▽`)ノ ಠ_ಠ (｀Д´) (•̀ω•́) ﾌﾟﾝﾌﾟﾝ(｀ω´) (#｀皿´) (ﾟ皿ﾟ) (っ`ω´c) 凸(-_-#) ヽ(#｀Д´)ﾉ "
    "(ﾉ｀⊿´)ﾉ (´･ω･`)ﾌﾞｽｯ (๑•̀ㅂ•́)و✧ (づ￣³￣)づ ლ(ಠ益ಠლ) ʕ•ᴥ•ʔ (ツ) ¯\\_(ツ)_/¯ (>д<) (TдT) (一_一) ༼つಥ_ಥ༽つ ᕕ(ᐛ)ᕗ "
    "(oдo) (^д^) (^人^) （´；ω；`） (ง'̀-'́)ง ⊂(・ヮ・⊂) (=ΦωΦ=) (´･(ｪ)･`) (｀(エ)´) (个_个) °Д° ಠoಠ (/Д｀) U^ｴ^U "
    "(oT-T)尸 乙(ツ)乙 乙(のっの)乙 ʕㅇ호ㅇʔ (ㅇㅅㅇ) (の人の) (ꈨຶꎁꈨຶ)۶” ლ,ᔑ•ﺪ͟͠•ᔐ.ლ Ƹ̵̡Ӝ̵̨̄Ʒ "
    "(^-^)_旦~~ (゜ロ゜) (ё∇ё) ´Д` ヾ(^_^) |Д´)/ "
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
    ("ko", "그는 (▸人) 라고"),
    ("ko", "f(x) = ▸д"),
    ("ko", "(a (▸д) b)"),
    ("ko", "**(▸ж)** 글자"),
    ("ko", "(^_^) 3^▸д"),
    ("ko", "-- (^_^) 네 ▸ノ 이다"),
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


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("Korean (South Korea)|korean language|Korean(한국어)|Koreanisch|coréen|корейский|韩语|韓国語", "ko"),
        ("Chinese (Simplified, China)|Chinese, Simplified|Chinese (China)|中文 (简体)|中文（简体）", "zh-Hans"),
        ("Chinese (Taiwan)|Chinese (Hong Kong)|Chinese, Traditional|中文（繁體）", "zh-Hant"),
        ("Standard Arabic|Modern Standard Arabic|Arabic (Egypt)|arb|arb_Arab", "ar"),
        ("Portuguese (Brazil)|European Portuguese|portugués", "pt"),
        ("English (US)|American English|British English|Englisch|英语", "en"),
        ("Iranian Persian|pes|Persian (Iran)", "fa"),
    ],
)
def test_names_of_a_language_with_its_region_or_in_another_language(names: str, code: str) -> None:
    assert {name: language_code(name) for name in names.split("|")} == dict.fromkeys(names.split("|"), code)


@pytest.mark.parametrize("name", ["ko,en", "Korean, English", "Korean (", "(Korean)", "unknown", "und", "", "()"])
def test_what_names_no_language_or_several_is_none(name: str) -> None:
    with pytest.raises(UnknownLanguageError):
        language_code(name)


def test_an_unknown_language_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownLanguageError, match=r"'Koreen'.*nearest: ko;"):
        language("Koreen")


def test_chinese_covers_both_writings_and_each_writing_only_itself() -> None:
    assert selected("zh-TW", ["ko", "zh"]) == "zh"
    assert selected("zh", ["zh-Hant"]) is None
    assert selected("Korean", ["ko"]) == "ko"
    assert selected("klingon", ["klingon"]) == "klingon"
