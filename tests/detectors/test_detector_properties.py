"""Laws of a detector on arbitrary text: any script, lone surrogates, NUL, bidirectional marks, markup cut anywhere."""

from __future__ import annotations

import itertools
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import (
    Detector,
    English,
    LanguageDetector,
    Stream,
    TermsDetector,
    count,
    find,
    language,
    languages,
    spans,
)
from detectors.exempt_spans import Cursor, ExemptSpans
from detectors.runs import Run
from detectors.scripts import script_of

_WORDS = (
    "привет é für quelques und la de the word print a in x km Samsung x2 e.g. iv) tuò ō œ ɛ αβ γ Σ ﬁ ｃ "
    "한국 어는 我 们 今天 です シ ー عربي ک ی الم úsica ` ``` $ $$ \\( \\) \\[ \\] \\frac { } http :// .com www. @ "
    "( ) [ ] / < > = + _ - ' ’ . , ? | # ~ 3 ˈ і ы қ สวัสดี नमस्ते বাংলা Ελλάδα שלום degli Piero Francesca auf "
    "´ ｀ д ω ヽ ﾉ ಠ _ ^ ･ ﾑｶ ノカ （ ） ~~~ ```` \\begin{align} \\end{align} https:// /wiki/ 서울 пример.рф | * foie "
    "gras raison d'être für Institut ng mbps ⼤ ㌔ do re mi fa sol 后 後 这 這 "
    "ΦωΦ ु ა ૮ (ｴ) (´ (/ _ 个_个 ب_ب °Д° 尸 ∩ ━ ﾜ ¯ __ "
    "una casa un article blog <foo <item id= /> cantidad voor $24 Wǒ de 5 的 對 byder"
)
_SENTENCES = (
    "Das ist nicht so gut wie es sein sollte. ",
    "La casa es muy bonita y grande",
    "This is a plain English sentence: ",
    "wa kikai gakushu no mondai desu. ",
    "Het is een mooie dag en ik ga naar huis!",
)
_PIECES = [
    *_WORDS.split(), " ", " ", "\n", "\n\n", "\0", "\ud800", "\udce4", "\ufffd", "\u0301", "\u200b", "\u202e", "\u2067",
    *_SENTENCES,
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=25).map("".join),
    st.text(st.characters(codec=None, categories=None), max_size=40),
)
DETECTORS = st.builds(language, st.sampled_from(languages()), st.sampled_from(("neutral", "confusion")))
COUNTED = DETECTORS.filter(lambda detector: detector.language.segmenter == "spaces")


@given(text=TEXTS, detector=DETECTORS)
@settings(max_examples=400, deadline=None)
def test_spans_are_ordered_and_begin_with_the_result_of_find(text: str, detector: LanguageDetector) -> None:
    findings = spans(text, detector)
    assert find(text, detector) == (findings[0] if findings else None)
    left = 0
    for span in findings:
        assert left <= span.start < span.end
        assert text[span.start : span.end] == span.text
        left = span.end


@given(text=TEXTS, detector=DETECTORS)
@settings(max_examples=400, deadline=None)
def test_nothing_before_the_first_confusion_is_confused(text: str, detector: LanguageDetector) -> None:
    finding = find(text, detector)
    if finding is not None:
        assert find(text[: finding.start], detector) is None


@given(text=TEXTS, detector=DETECTORS)
@settings(max_examples=400, deadline=None)
def test_a_confusion_begins_with_a_foreign_letter_outside_every_exempt_span(
    text: str, detector: LanguageDetector
) -> None:
    for span in spans(text, detector):
        assert script_of(text[span.start]) != "Common"
        if span.rule == "script":
            assert detector.profile.foreign_letters.search(span.text)
        run = Run(span.start, span.end, span.kind, span.text)
        assert not ExemptSpans(text, detector.profile, Cursor()).cover(run)


@given(text=TEXTS, detector=DETECTORS)
@settings(max_examples=300, deadline=None)
def test_what_is_found_in_unfinished_text_is_never_moved_or_removed(text: str, detector: LanguageDetector) -> None:
    final = find(text, detector)
    for cut in range(len(text) + 1):
        early = find(text[:cut], detector, final=False)
        assert early is None or (final is not None and early.start == final.start)
        if final is not None and cut <= final.start:
            assert early is None


@given(text=TEXTS, detector=DETECTORS, data=st.data())
@settings(max_examples=600, deadline=None)
def test_a_stream_agrees_with_find_however_the_text_is_cut(
    text: str, detector: LanguageDetector, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    assert_stream_agrees(text, detector, cuts)
    assert_stream_agrees(text, detector, range(len(text)))


LONG = st.builds(
    lambda unit, length, end: (unit * length)[:length] + end,
    st.sampled_from(["a", "ab-", "the-", "l'", "é", "a.", "x1_", "`", "http://a.", "f(", "$a", "<a", "palabra", "the"]),
    st.integers(50, 1300),
    st.sampled_from(["", " ", "привет", "한", "é", "\n", "`", " the word and the", ")", "ა", "ő ", "東"]),
)


@given(
    texts=st.lists(st.one_of(LONG, st.sampled_from(_PIECES)), min_size=1, max_size=4),
    detector=DETECTORS,
    step=st.sampled_from([1, 3, 17, 200]),
)
@settings(max_examples=100, deadline=None)
def test_a_stream_of_long_tokens_agrees_with_find(texts: list[str], detector: LanguageDetector, step: int) -> None:
    text = "".join(texts)
    assert_stream_agrees(text, detector, range(0, len(text), step))


@pytest.mark.parametrize("unit", ["a", "a-", "a.", "é", "`a ", "$a"])
@pytest.mark.parametrize(("code", "english"), [("ko", "neutral"), ("ko", "confusion"), ("es", "neutral")])
def test_the_time_of_a_stream_grows_with_its_length_only(unit: str, code: str, english: English) -> None:
    detector = language(code, english)

    def seconds(length: int) -> float:
        text, start = (unit[:-1] if unit[0] == "`" else "") + (unit * length)[:length], time.process_time()
        stream = Stream(detector)
        for char in text:
            stream.feed(char)
        return time.process_time() - start

    seconds(100)  # reads the lists of words
    short, long = min(seconds(2_000) for _ in range(2)), min(seconds(16_000) for _ in range(2))
    assert long < 24 * short + 0.2, f"{short:.3f} s for 2,000 characters, {long:.3f} s for 8 times as many"


def test_a_stream_remembers_the_article_before_an_unfinished_word() -> None:
    assert_stream_agrees("слово <un wordprint(de", language("uk"), range(22))


def assert_stream_agrees(text: str, detector: Detector, cuts: range | list[int]) -> None:
    """Check that a stream of the text cut at `cuts` finds what `find` does, and never anything else on the way."""
    final = detector.find(text)
    stream = Stream(detector)
    for start, end in itertools.pairwise([0, *cuts, len(text)]):
        early = stream.feed(text[start:end])
        assert early is None or (final is not None and early.start == final.start and early.end <= final.end)
    closed = stream.close()
    assert (closed and (closed.start, closed.kind, closed.rule)) == (final and (final.start, final.kind, final.rule))


@given(text=TEXTS, detector=DETECTORS)
@settings(max_examples=300, deadline=None)
def test_a_part_with_its_left_context_agrees_with_the_complete_text(text: str, detector: LanguageDetector) -> None:
    complete = find(text, detector)
    for cut in range(len(text) + 1 if complete is None else complete.start + 1):
        part = find(text[cut:], detector, prefix=text[:cut])
        assert (part and part.start + cut) == (complete and complete.start)
        stream = Stream(detector, prefix=text[:cut])
        stream.feed(text[cut:])
        closed = stream.copy().close()
        assert (closed and closed.start + cut) == (complete and complete.start)


@given(text=TEXTS, detector=COUNTED)
@settings(max_examples=300, deadline=None)
def test_a_text_fails_exactly_if_find_finds_something(text: str, detector: LanguageDetector) -> None:
    counts = count(text, detector)
    assert (counts.status == "fail") == (find(text, detector) is not None)
    assert 0 <= counts.confused_words <= counts.words
    assert (counts.confused_words > 0) == (counts.status == "fail")
    assert (counts.status == "empty") == (counts.words == 0)
    assert 0 <= counts.confused_lines <= counts.lines
    assert (counts.confused_lines > 0) == (counts.status == "fail")


@pytest.mark.slow
@given(text=TEXTS, code=st.sampled_from(("ja", "zh", "th")))
@settings(max_examples=150, deadline=None)
def test_the_same_holds_where_a_library_finds_the_words(text: str, code: str) -> None:
    counts = count(text, language(code))
    assert (counts.status == "fail") == (find(text, language(code)) is not None)
    assert 0 <= counts.confused_words <= counts.words


TERMS = st.builds(
    TermsDetector,
    terms=st.lists(st.sampled_from(["ab", "abc d", "d ef", "Ä", "c++", "x", ".net"]), min_size=1, max_size=4),
    ignore_case=st.booleans(),
)


@given(text=st.text("abcd efxÄä+.nt\n\ud800", max_size=24), detector=TERMS)
@settings(max_examples=500, deadline=None)
def test_the_terms_detector_obeys_the_laws_of_a_detector(text: str, detector: TermsDetector) -> None:
    complete = detector.find(text)
    assert_stream_agrees(text, detector, range(len(text)))
    if complete is not None:
        assert text[complete.start : complete.end] == complete.text
        assert detector.find(text[: complete.start]) is None
    for cut in range(len(text) + 1 if complete is None else complete.start + 1):
        part = detector.find(text[cut:], prefix=text[:cut])
        assert (part and part.start + cut) == (complete and complete.start)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["ko", "ja", "ru", "en", "ar"])
def test_a_line_of_a_million_characters_is_read_in_one_pass(code: str) -> None:
    random = Random(code)
    clean = {"ko": "한국어 ", "ja": "日本の", "ru": "слово ", "en": "word ", "ar": "كلمة "}[code]
    text = clean * (1_000_000 // len(clean)) + "ไทย"
    detector = language(code)
    finding = find(text, detector)
    assert finding is not None
    assert finding.start == len(text) - 3
    assert count(text, detector).confused_words == 1 if detector.language.segmenter == "spaces" else True
    stream, position = Stream(detector), 0
    while position < len(text):
        step = random.randrange(1, 400)
        stream.feed(text[position : position + step])
        position += step
    closed = stream.close()
    assert closed is not None
    assert closed.start == finding.start


@pytest.mark.slow
def test_200_000_characters_of_anything_are_read_in_one_pass() -> None:
    for unit in ("a", "`", "$", "(", "http://", "<a ", "f(", "é", "\\(", "们", "\u0301", "ab ", "x.", "à la "):
        text = unit * (200_000 // len(unit))
        for detector in (language("ja"), language("ko", "confusion"), language("ru", passages="off")):
            spans(text, detector)
