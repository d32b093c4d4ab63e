"""Laws of the detector on arbitrary text: any script, lone surrogates, NUL, bidi, markup cut anywhere, real answers."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import Detector, Profile, Stream, TermsDetector, count, find, languages, profile, spans
from detectors.exemptions import Cursor, ExemptSpans
from detectors.runs import Run
from detectors.scripts import script_of

_WORDS = (
    "привет é für quelques und la de the word print a in x km Samsung x2 e.g. iv) tuò ō œ ɛ αβ γ Σ ﬁ ｃ "
    "한국 어는 我 们 今天 です シ ー عربي ک ی الم úsica ` ``` $ $$ \\( \\) \\[ \\] \\frac { } http :// .com www. @ "
    "( ) [ ] / < > = + _ - ' ’ . , ? | # ~ 3 ˈ і ы қ สวัสดี नमस्ते বাংলা Ελλάδα שלום degli Piero Francesca auf "
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
PROFILES = st.builds(profile, st.sampled_from(languages()), st.sampled_from(("neutral", "confusion")))
COUNTED = PROFILES.filter(lambda profile: profile.language.segmenter == "spaces")


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=400, deadline=None)
def test_spans_are_ordered_pieces_of_the_text_and_begin_with_find(text: str, at: Profile) -> None:
    found = spans(text, at)
    assert find(text, at) == (found[0] if found else None)
    left = 0
    for span in found:
        assert left <= span.index < span.end
        assert text[span.index : span.end] == span.text
        left = span.end


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=400, deadline=None)
def test_nothing_before_the_first_confusion_is_confused(text: str, at: Profile) -> None:
    found = find(text, at)
    if found is not None:
        assert find(text[: found.index], at) is None


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=400, deadline=None)
def test_a_confusion_begins_with_a_foreign_letter_outside_every_exempt_span(text: str, at: Profile) -> None:
    for found in spans(text, at):
        assert script_of(text[found.index]) != "Common"
        if found.tier == "script":
            assert at.suspects.search(found.text)
        run = Run(found.index, found.end, found.script, found.text)
        assert not ExemptSpans(text, at, Cursor()).cover(run)


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=300, deadline=None)
def test_a_streaming_hit_is_never_moved_or_removed(text: str, at: Profile) -> None:
    final = find(text, at)
    for cut in range(len(text) + 1):
        early = find(text[:cut], at, final=False)
        assert early is None or (final is not None and early.index == final.index)
        if final is not None and cut <= final.index:
            assert early is None


@given(text=TEXTS, at=PROFILES, data=st.data())
@settings(max_examples=600, deadline=None)
def test_a_stream_says_the_same_as_find_however_the_text_is_cut(text: str, at: Profile, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    same_stream(text, at, cuts)
    same_stream(text, at, range(len(text)))


def test_a_stream_remembers_the_article_before_a_word_that_waits() -> None:
    same_stream("слово <un wordprint(de", profile("uk"), range(22))


def same_stream(text: str, at: Detector, cuts: range | list[int]) -> None:
    final = at.find(text)
    stream = Stream(at)
    for start, end in itertools.pairwise([0, *cuts, len(text)]):
        early = stream.feed(text[start:end])
        assert early is None or (final is not None and early.index == final.index and early.end <= final.end)
    closed = stream.close()
    assert (closed and (closed.index, closed.script, closed.tier)) == (
        final and (final.index, final.script, final.tier)
    )


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=300, deadline=None)
def test_left_context_agrees_with_the_whole_text(text: str, at: Profile) -> None:
    whole = find(text, at)
    for cut in range(len(text) + 1 if whole is None else whole.index + 1):
        part = find(text[cut:], at, prefix=text[:cut])
        assert (part and part.index + cut) == (whole and whole.index)
        stream = Stream(at, prefix=text[:cut])
        stream.feed(text[cut:])
        closed = stream.copy().close()
        assert (closed and closed.index + cut) == (whole and whole.index)


@given(text=TEXTS, at=COUNTED)
@settings(max_examples=300, deadline=None)
def test_a_text_fails_exactly_if_find_finds(text: str, at: Profile) -> None:
    counts = count(text, at)
    assert (counts.status == "fail") == (find(text, at) is not None)
    assert 0 <= counts.confused_words <= counts.words
    assert (counts.confused_words > 0) == (counts.status == "fail")
    assert (counts.status == "empty") == (counts.words == 0)
    assert 0 <= counts.confused_lines <= counts.lines
    assert (counts.confused_lines > 0) == (counts.status == "fail")


@pytest.mark.slow
@given(text=TEXTS, language=st.sampled_from(("ja", "zh", "th")))
@settings(max_examples=150, deadline=None)
def test_the_same_where_words_are_found_by_a_library(text: str, language: str) -> None:
    counts = count(text, profile(language))
    assert (counts.status == "fail") == (find(text, profile(language)) is not None)
    assert 0 <= counts.confused_words <= counts.words


TERMS = st.builds(
    TermsDetector,
    terms=st.lists(st.sampled_from(["ab", "abc d", "d ef", "Ä", "c++", "x", ".net"]), min_size=1, max_size=4),
    ignore_case=st.booleans(),
)


@given(text=st.text("abcd efxÄä+.nt\n\ud800", max_size=24), at=TERMS)
@settings(max_examples=500, deadline=None)
def test_forbidden_terms_keep_the_laws_of_a_detector(text: str, at: TermsDetector) -> None:
    whole = at.find(text)
    same_stream(text, at, range(len(text)))
    if whole is not None:
        assert text[whole.index : whole.end] == whole.text
        assert at.find(text[: whole.index]) is None
    for cut in range(len(text) + 1 if whole is None else whole.index + 1):
        part = at.find(text[cut:], prefix=text[:cut])
        assert (part and part.index + cut) == (whole and whole.index)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["ko", "ja", "ru", "en", "ar"])
def test_a_line_of_a_million_characters_is_read_in_one_pass(language: str) -> None:
    random = Random(language)
    clean = {"ko": "한국어 ", "ja": "日本の", "ru": "слово ", "en": "word ", "ar": "كلمة "}[language]
    text = clean * (1_000_000 // len(clean)) + "ไทย"
    at = profile(language)
    found = find(text, at)
    assert found is not None
    assert found.index == len(text) - 3
    assert count(text, at).confused_words == 1 if at.language.segmenter == "spaces" else True
    stream, position = Stream(at), 0
    while position < len(text):
        step = random.randrange(1, 400)
        stream.feed(text[position : position + step])
        position += step
    closed = stream.close()
    assert closed is not None
    assert closed.index == found.index


@pytest.mark.slow
def test_200_000_of_anything_are_read_in_one_pass() -> None:
    for unit in ("a", "`", "$", "(", "http://", "<a ", "f(", "é", "\\(", "们", "\u0301", "ab ", "x.", "à la "):
        text = unit * (200_000 // len(unit))
        for at in (profile("ja"), profile("ko", "confusion"), profile("ru", passages="off")):
            spans(text, at)
