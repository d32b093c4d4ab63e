"""Properties of the detector on arbitrary text: any script, lone surrogates, NUL, markup cut anywhere."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import English, Profile, count, find, languages, profile, spans

_WORDS = (
    "привет é für quelques und la de the word print a in x km Samsung x2 e.g. iv) tuò ō œ ɛ αβ γ Σ ﬁ ｃ "
    "한국 어는 我 们 今天 です シ ー عربي ک ی الم úsica ` ``` $ $$ \\( \\) \\[ \\] \\frac { } http :// .com www. @ "
    "( ) [ ] / < > = + _ - ' ’ . , ? | # ~ 3 ˈ"
)
_PIECES = [*_WORDS.split(), " ", " ", "\n", "\n\n", "\0", "\ud800", "\udce4", "\ufffd", "\u0301", "\u200b"]
TEXTS = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=25).map("".join),
    st.text(st.characters(codec=None, categories=None), max_size=40),
)
PROFILES = st.builds(profile, st.sampled_from(languages()), st.sampled_from(("neutral", "confusion")))


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=300, deadline=None)
def test_spans_are_ordered_pieces_of_the_text_and_begin_with_find(text: str, at: Profile) -> None:
    found = spans(text, at)
    assert find(text, at) == (found[0] if found else None)
    left = 0
    for span in found:
        assert left <= span.index < span.end
        assert text[span.index : span.end] == span.text
        left = span.end


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=300, deadline=None)
def test_a_streaming_hit_is_never_moved_or_removed(text: str, at: Profile) -> None:
    final = find(text, at)
    for cut in range(len(text) + 1):
        early = find(text[:cut], at, final=False)
        assert early is None or (final is not None and early.index == final.index)
        if final is not None and cut <= final.index:
            assert early is None


@given(text=TEXTS, at=PROFILES)
@settings(max_examples=300, deadline=None)
def test_left_context_agrees_with_the_whole_text(text: str, at: Profile) -> None:
    whole = find(text, at)
    for cut in range(len(text) + 1 if whole is None else whole.index + 1):
        part = find(text[cut:], at, prefix=text[:cut])
        assert (part and part.index + cut) == (whole and whole.index)


@given(text=TEXTS, language=st.sampled_from(("ko", "ar")), english=st.sampled_from(("neutral", "confusion")))
@settings(max_examples=200, deadline=None)
def test_a_text_fails_exactly_if_find_finds(text: str, language: str, english: English) -> None:
    at = profile(language, english)
    counts = count(text, at)
    assert (counts.status == "fail") == (find(text, at) is not None)
    assert 0 <= counts.confused_words <= counts.words
    assert (counts.status == "empty") == (counts.words == 0)
