"""Where processes may run: labels of nodes, in order of preference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tlpo_ray.cluster.placement import describe, matches
from tlpo_ray.config.cluster import ClusterConfig

SPOT = {"ray.io/market-type": "spot", "zone": "b"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"ray.io/market-type": "spot"}, True),
        ({"ray.io/market-type": "on-demand"}, False),
        ({"ray.io/market-type": "!on-demand"}, True),
        ({"ray.io/market-type": "!spot"}, False),
        ({"zone": "in(a, b)"}, True),
        ({"zone": "in(a,c)"}, False),
        ({"zone": "!in(a,c)"}, True),
        ({"zone": "!in(a,b)"}, False),
        ({"missing": "x"}, False),
        ({"missing": "!x"}, True),
        ({"missing": "in(x)"}, False),
        ({"ray.io/market-type": "spot", "zone": "a"}, False),
    ],
)
def test_a_selector_is_read_as_ray_reads_it(selector: dict[str, str], expected: bool) -> None:
    assert matches(SPOT, selector) == expected


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), st.sampled_from("abc"), st.sampled_from("xyz"))
def test_a_value_or_its_negation_matches(labels: dict[str, str], name: str, value: str) -> None:
    assert matches(labels, {name: value}) != matches(labels, {name: f"!{value}"})
    assert matches(labels, {name: value}) == matches(labels, {name: f"in({value})"})


def test_one_selector_may_stand_without_a_list() -> None:
    config = ClusterConfig.model_validate({"rollout_labels": {"zone": "b"}, "learner_labels": [{"zone": "a"}, {}]})
    assert config.rollout_labels == ({"zone": "b"},) and config.learner_labels == ({"zone": "a"}, {})
    assert describe(config.learner_labels[0]) == "zone=a"
    assert describe(config.learner_labels[1]) == "(any)"


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"-zone": "a"}, "'-zone' is not a label"),
        ({"a/b/c": "a"}, "'a/b/c' is not a label"),
        ({"zone": ""}, "'' selects no value of zone"),
        ({"zone": "in()"}, r"'in\(\)' selects no value of zone"),
        ({"zone": "not in(a)"}, r"selects no value of zone: use a value, in\(a, b\), !a or !in\(a, b\)"),
    ],
)
def test_a_selector_that_ray_would_refuse_later_is_refused_when_it_is_read(
    selector: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ClusterConfig.model_validate({"rollout_labels": selector})
