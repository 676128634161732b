from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.splits import (
    EVALUATION_SALT,
    VALIDATION_SALT,
    folds,
    prompt_fraction,
    prompt_overlap,
    split_by_prompt,
)
from hidden_context.errors import ConfigError


def pair(prompt: str, n: int = 0) -> Example:
    return read_row({"prompt": prompt, "chosen": f" yes {n}", "rejected": f" no {n}"})


def test_prompt_fraction_is_stable_for_ever() -> None:
    # Changing any of these would move rows between the training and the test set of old runs.
    assert prompt_fraction("", "") == 0.4304816492364817
    assert prompt_fraction("hello", "evaluation") == 0.5763549865938171
    assert (EVALUATION_SALT, VALIDATION_SALT) == ("evaluation", "validation")


@given(st.text(), st.text(max_size=5))
def test_prompt_fraction_lies_in_the_unit_interval(key: str, salt: str) -> None:
    assert 0.0 <= prompt_fraction(key, salt) < 1.0


def test_prompt_fraction_is_uniform_and_salts_are_independent() -> None:
    first = [prompt_fraction(f"prompt {i}", "a") for i in range(20_000)]
    second = [prompt_fraction(f"prompt {i}", "b") for i in range(20_000)]
    deciles = [sum(i / 10 <= x < (i + 1) / 10 for x in first) for i in range(10)]
    assert max(abs(count - 2000) for count in deciles) < 5 * (20_000 * 0.09) ** 0.5
    both = sum(x < 0.3 and y < 0.3 for x, y in zip(first, second, strict=True))
    assert abs(both - 1800) < 5 * (20_000 * 0.09 * 0.91) ** 0.5


@settings(max_examples=50)
@given(
    st.lists(st.text(" ab", max_size=3), min_size=1, max_size=60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_prompt_on_both_sides_and_larger_fractions_only_add(
    prompts: list[str], one: float, two: float
) -> None:
    pairs = [pair(prompt, n) for n, prompt in enumerate(prompts)]
    small, large = sorted((one, two))
    rest, held_out = split_by_prompt(pairs, small)
    assert prompt_overlap(rest, held_out) == 0
    assert len(rest) + len(held_out) == len(pairs)
    order = {id(p): n for n, p in enumerate(pairs)}
    for side in (rest, held_out):
        places = [order[id(p)] for p in side]
        assert places == sorted(places)
    _, more = split_by_prompt(pairs, large)
    assert {id(p) for p in held_out} <= {id(p) for p in more}


def test_fraction_held_out_is_close() -> None:
    pairs = [pair(f"prompt {i}") for i in range(5000)]
    _, held_out = split_by_prompt(pairs, 0.1)
    assert abs(len(held_out) - 500) < 5 * (5000 * 0.09) ** 0.5


@settings(max_examples=30)
@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=40), st.integers(2, 6))
def test_folds_hold_out_every_example_once_and_no_prompt_twice(prompts: list[str], k: int) -> None:
    pairs = [pair(prompt, n) for n, prompt in enumerate(prompts)]
    divisions = folds(pairs, k)
    assert len(divisions) == k
    held = [id(p) for _, held_out in divisions for p in held_out]
    assert sorted(held) == sorted(map(id, pairs))
    for rest, held_out in divisions:
        assert prompt_overlap(rest, held_out) == 0
        assert len(rest) + len(held_out) == len(pairs)


def test_bad_numbers() -> None:
    with pytest.raises(ConfigError):
        split_by_prompt([], 1.5)
    with pytest.raises(ConfigError):
        folds([], 1)
