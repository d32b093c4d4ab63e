"""Foreign words at random places of real sentences: the first confused character is known by construction."""

from __future__ import annotations

import gzip
import json
import random
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from babel import Locale

import detectors
from detectors.scripts import script_class
from tests.shared import DATA

SCRIPTS = {
    "Arabic": ("ar", "fa"), "Armenian": ("hy",), "Bengali": ("bn",), "Cyrillic": ("ru", "uk", "bg"),
    "Devanagari": ("hi", "mr"), "Ethiopic": ("am",), "Georgian": ("ka",), "Greek": ("el",), "Gujarati": ("gu",),
    "Han": ("zh",), "Hangul": ("ko",), "Hebrew": ("he",), "Katakana": ("ja",), "Khmer": ("km",), "Lao": ("lo",),
    "Myanmar": ("my",), "Sinhala": ("si",), "Tamil": ("ta",), "Telugu": ("te",), "Thai": ("th",),
}  # fmt: skip
"""Locales of CLDR whose names of territories give the foreign words of each script."""
OWN = {
    "ko": {"Hangul"}, "zh": {"Han"}, "ja": {"Han", "Katakana"}, "ar": {"Arabic"}, "ru": {"Cyrillic"}, "th": {"Thai"},
}  # fmt: skip
"""Languages of the sentences, each with the scripts that are at home in it."""
CARRIED = {
    "ko": (
        "오늘 아침에는 비가 왔지만 오후에는 하늘이 맑게 갰습니다.",
        "할머니께서는 장독대에 된장과 고추장을 담가 두셨다.",
        "회의는 3월 14일 오전 10시 30분에 시작해서 약 90분 동안 진행됩니다.",
        "물은 100℃에서 끓고 0℃에서 얼며, 부피는 약 9% 늘어난다.",
        "준비물:\n  - 밀가루 250 g\n  - 달걀 2개\n    - 큰 것으로 고르세요\n1. 먼저 체에 칩니다.",
        '{\n  "이름": "김하늘",\n  "나이": 27,\n  "취미": ["등산", "뜨개질"]\n}',
        "“정말 괜찮아요?” 그가 물었다… 나는 웃으며 고개를 끄덕였다 😊👍🏽",
        "뷁쀍 같은 글자는 거의 쓰이지 않지만, 똠방각하나 펲시맨처럼 이름에 남아 있기도 하다.",
    ),
    "zh": (
        "昨天晚上我们在河边散步，看见几只白鹭慢慢飞过水面。",
        "这家面馆已经开了三十多年，老板每天凌晨四点就起来揉面。",
        "会议定于3月14日上午10:30开始，预计持续90分钟，请准时参加。",
        "水在100℃沸腾，在0℃结冰，体积大约增加9%。",
        "材料：\n  - 面粉250克\n  - 鸡蛋2个\n    - 选大一点的\n1. 先把面粉过筛。",
        '{\n  "姓名": "王小雨",\n  "年龄": 27,\n  "爱好": ["登山", "编织"]\n}',
        "“真的没关系吗？”他问。我笑着点了点头……😊👍🏽",
        "𠮷野家的招牌上，那个上面是土字的𠮷字，很多输入法都打不出来。",
    ),
    "ja": (
        "昨日は雨が降っていたが、今朝はすっかり晴れて富士山がよく見えた。",
        "祖母は毎年、梅干しと味噌を自分の手で仕込んでいる。",
        "会議は3月14日の午前10時30分に始まり、およそ90分かかる予定です。",
        "水は100℃で沸騰し、0℃で凍ると体積が約9％増える。",
        "材料：\n  - 小麦粉 250 g\n  - 卵 2個\n    - 大きめのもの\n1. まず粉をふるいます。",
        '{\n  "名前": "佐藤はるか",\n  "年齢": 27,\n  "趣味": ["登山", "編み物"]\n}',
        "「本当に大丈夫？」と彼が聞いたので、私は笑ってうなずいた……😊👍🏽",
        "コーヒーとケーキを注文して、窓ぎわの席でゆっくりと本を読んだ。",
    ),
    "ar": (
        "هطل المطر صباح أمس، ثم صفت السماء بعد الظهر وخرج الأطفال إلى الحديقة.",
        "تُعِدُّ جدَّتي الخبزَ كلَّ صباحٍ في فرنٍ قديمٍ من الطين.",
        "يبدأ الاجتماع في 14 مارس الساعة 10:30 صباحًا ويستمر نحو 90 دقيقة.",
        "يغلي الماء عند ١٠٠ درجة ويتجمد عند الصفر، ويزداد حجمه نحو ٩٪.",
        "المكونات:\n  - دقيق 250 غرامًا\n  - بيضتان\n    - من الحجم الكبير\n1. ننخل الدقيق أولًا.",
        '{\n  "الاسم": "ليلى حداد",\n  "العمر": 27,\n  "الهوايات": ["القراءة", "التطريز"]\n}',
        "«هل أنت بخير حقًّا؟» سألني… فابتسمتُ وأومأتُ برأسي 😊👍🏽",
        "تقع المدينة على شاطئ البحر، ويعيش فيها أكثر من ثلاثة ملايين نسمة.",
    ),
    "ru": (
        "Вчера утром шёл дождь, а после обеда небо прояснилось, и дети вышли во двор.",
        "Бабушка каждую осень солит огурцы и варит варенье из чёрной смородины.",
        "Совещание начнётся 14 марта в 10:30 и продлится около 90 минут.",
        "Вода кипит при 100 °C и замерзает при 0 °C, а объём её растёт примерно на 9 %.",
        "Продукты:\n  - мука, 250 г\n  - яйца, 2 шт.\n    - лучше крупные\n1. Сначала просейте муку.",
        '{\n  "имя": "Анна Белова",\n  "возраст": 27,\n  "увлечения": ["походы", "вязание"]\n}',
        "«Точно всё в порядке?» — спросил он… Я улыбнулась и кивнула 😊👍🏽",
        "Поезд опоздал на сорок минут, поэтому на вокзале мы выпили ещё по чашке чая.",
    ),
    "th": (
        "เมื่อวานตอนเช้าฝนตก แต่ตอนบ่ายท้องฟ้าแจ่มใสและเด็ก ๆ ออกไปเล่นในสวน",
        "คุณยายตื่นตั้งแต่ตีสี่เพื่อทำขนมไปขายที่ตลาดน้ำทุกวันเสาร์",
        "การประชุมเริ่มวันที่ 14 มีนาคม เวลา 10:30 น. และใช้เวลาประมาณ 90 นาที",
        "น้ำเดือดที่ 100 องศาและแข็งตัวที่ 0 องศา โดยมีปริมาตรเพิ่มขึ้นประมาณ 9%",
        "ส่วนผสม:\n  - แป้ง 250 กรัม\n  - ไข่ 2 ฟอง\n    - เลือกฟองใหญ่\n1. ร่อนแป้งก่อน",
        '{\n  "ชื่อ": "สมหญิง ใจดี",\n  "อายุ": 27,\n  "งานอดิเรก": ["ปีนเขา", "ถักไหมพรม"]\n}',
        "“ไม่เป็นไรจริง ๆ เหรอ” เขาถาม… ฉันยิ้มแล้วพยักหน้า 😊👍🏽",
        "ก๋วยเตี๋ยวร้านนี้น้ำซุปเข้มข้นมาก ใส่พริกป่นกับมะนาวอีกนิดก็อร่อยพอดี",
    ),
}
"""A few sentences of our own for each language, so that the tests have ground without the development data."""
MIF = {"ko": "ko", "zh": "zh_local", "ja": "ja", "ar": "ar_local", "ru": "ru", "th": "th"}
"""Files of instruction-following prompts in the development data."""
SHORTEST, LONGEST = 8, 120
"""Least and most characters of a sentence; longer ones would only make the tests slow."""
EXEMPT = re.compile("://|```")
"""Beginnings of addresses and fences, in which words of any script are allowed."""


@dataclass(frozen=True, slots=True)
class Insertion:
    """A clean sentence with one foreign word in it."""

    language: str
    before: str
    """Clean text up to the foreign word."""
    word: str
    after: str
    """Rest of the sentence."""

    @property
    def text(self) -> str:
        """The complete text."""
        return self.before + self.word + self.after


@cache
def detector(language: str) -> detectors.Detector:
    """Return the detector of a language."""
    return detectors.language(language)


@cache
def insertions(count: int, seed: int = 0) -> tuple[Insertion, ...]:
    """Return that many foreign words at random places of sentences, the languages in turn; some may come twice."""
    generator = random.Random(seed)
    sentences = {language: clean_sentences(language) for language in OWN}
    made: list[Insertion] = []
    while len(made) < count:
        language = tuple(OWN)[len(made) % len(OWN)]
        sentence = generator.choice(sentences[language])
        cut = generator.randint(0, len(sentence))
        script = generator.choice([script for script in SCRIPTS if script not in OWN[language]])
        insertion = Insertion(language, sentence[:cut], generator.choice(foreign_words(script)), sentence[cut:])
        # Half of a clean word can be a wrong one ("futur" of "future"). And marks that meet at the end of the foreign
        # word may not be in the order of Unicode's normal form C, to which some tokenizers (Qwen) bring a text.
        if detector(language).find(insertion.before) is None and unicodedata.is_normalized("NFC", insertion.text):
            made.append(insertion)
    return tuple(made)


@cache
def clean_sentences(language: str) -> tuple[str, ...]:
    """Return real sentences in which the detector finds nothing."""
    normal = [unicodedata.normalize("NFC", text) for text in (*CARRIED[language], *_development_data(language))]
    return tuple(
        text
        for text in normal
        if SHORTEST <= len(text) <= LONGEST and not EXEMPT.search(text) and detector(language).find(text) is None
    )


@cache
def foreign_words(script: str) -> tuple[str, ...]:
    """Return words of at least three letters of one script, from CLDR's names of territories."""
    pattern = re.compile(f"[{script_class(script)}]{{3,}}")
    names = [name for locale in SCRIPTS[script] for name in Locale.parse(locale).territories.values()]
    return tuple(sorted({word for name in names for word in pattern.findall(unicodedata.normalize("NFC", name))}))


def _development_data(language: str) -> Iterator[str]:
    """Yield sentences of prompts in a language that are stored beside the checkout; nothing where they are absent."""
    files = (DATA / "mif" / f"{MIF[language]}.jsonl", DATA / "lcb_prompts" / "lcb_prompts.jsonl.gz")
    for file in files:
        if file.exists():
            content = file.read_bytes()
            text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode()
            for line in text.split("\n"):
                with suppress(ValueError):  # one line is broken as it was published, and the last one is empty
                    row = json.loads(line)
                    if row.get("language", language) == language and row.get("task") != "crosslingual":
                        yield from re.split(r"(?<=[.!?]) |(?<=[。！？])|\n\n", row["prompt"])
