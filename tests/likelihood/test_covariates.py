"""Covariates of annotators as columns of numbers."""

import math

import pytest
import torch

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import CovariateCoding, LikelihoodOptions, make_likelihood
from hidden_context.likelihood.covariates import FEWEST_PEOPLE, Covariate


def test_a_quantity_is_standardised_over_the_people():
    coding = CovariateCoding.of([{"age": float(age)} for age in (20, 30, 40, 50, 60)])
    assert coding.columns == (Covariate("age", None, 40.0, math.sqrt(200)),)
    coded = coding.encode([{"age": 40.0}, {"age": 40 + math.sqrt(200)}, {}])
    torch.testing.assert_close(coded, torch.tensor([[0.0], [1.0], [0.0]]))


def test_each_answer_of_enough_people_has_a_column():
    people = [{"region": "north"}] * 6 + [{"region": "south"}] * 5 + [{"region": "west"}] * 2
    coding = CovariateCoding.of(people)
    assert [column.level for column in coding.columns] == ["north", "south"]
    coded = coding.encode(people)
    torch.testing.assert_close(coded.mean(0), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(coded.square().mean(0), torch.ones(2))


def test_no_group_below_five_people_and_nothing_that_does_not_vary_has_a_column():
    few = [{"sex": "f"}] * (FEWEST_PEOPLE - 1) + [{"sex": "m"}] * 20
    assert CovariateCoding.of(few).columns == ()
    same = [{"land": "x", "age": 3.0}] * 9
    assert CovariateCoding.of(same).columns == ()
    assert CovariateCoding.of(same).encode(same).shape == (9, 0)


def test_text_where_a_quantity_is_needed_is_refused():
    coding = CovariateCoding.of([{"age": float(age)} for age in range(6)])
    with pytest.raises(ConfigError, match="'age' is a quantity"):
        coding.encode([{"age": "old"}])


def test_a_design_has_a_row_for_each_annotator():
    coding = CovariateCoding.of([{"age": float(age)} for age in range(6)])
    options = LikelihoodOptions(inference="variational", names=("a", "b"), covariates=coding)
    with pytest.raises(ConfigError, match="shape"):
        make_likelihood(heads.make("factor"), options, torch.zeros((3, 1)))


def test_nobody_known_is_the_average_person():
    coding = CovariateCoding.of([{"age": float(age)} for age in range(6)])
    options = LikelihoodOptions(inference="variational", covariates=coding)
    likelihood = make_likelihood(heads.make("factor"), options)
    assert likelihood.posterior(torch.tensor([-1]))[0].tolist() == [[0.0]]
