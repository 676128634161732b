import numpy as np
import pytest

from check.people import items_of, pair, rated, rng, two_camps
from hidden_context.check import scores
from hidden_context.check.answer import weigh_measures
from hidden_context.check.features import embedding_features, fit_share, word_features
from hidden_context.check.predict import Forecast, forecast, turned


@pytest.fixture(scope="module")
def camps():
    items = items_of(two_camps(), by="block")
    return items, forecast(items, word_features(items), ["mean", "quantile:0.1"])


def test_words_predict_votes(camps):
    items, found = camps
    assert found.folds == 4
    assert all(np.allclose(each.sum(1), 1) for each in found.answers.values())
    loss = {name: scores.loss_of(items, each).sum() / 600 for name, each in found.answers.items()}
    assert loss["constant"] == pytest.approx(np.log(2), abs=1e-3)
    assert loss["model"] < 0.6 < 0.69 < loss["length"]
    weather, first = np.arange(60) % 2 == 0, found.answers["model"][:, 0]
    right = np.where((np.arange(60) // 2) % 2 == 1, 1 - first, first)
    assert right[weather].mean() > 0.7
    assert scores.floor_of(items) == pytest.approx(np.log(2) / 2)


def test_a_pair_turned_round_has_its_probabilities_turned_round(camps):
    _, found = camps
    rows = two_camps()
    for row in rows:
        row["responses"] = row["responses"][::-1]
        for said in row["judgements"]:
            said["preference"] = 1 - said["preference"]
    turned = items_of(rows, by="block")
    again = forecast(turned, word_features(turned), ["mean"])
    np.testing.assert_allclose(again.answers["linear"], found.answers["linear"][:, ::-1], atol=2e-3)


def test_scores_and_verdict(camps):
    items, found = camps
    by_name = {each.name: each for each in scores.score_models(items, found)}
    assert list(by_name) == ["model", "linear", "length", "constant"]
    assert np.isnan(by_name["constant"].auroc.estimate)
    assert by_name["model"].nll.low < by_name["model"].nll.estimate < by_name["model"].nll.high
    verdict, missing = scores.judge_models(items, found)
    assert "better than a constant" in verdict
    assert not any("constant" in line for line in missing)
    alike = Forecast(dict.fromkeys(found.answers, found.answers["constant"]), {}, 4)
    assert scores.judge_models(items, alike) == (
        "The texts do not predict how people vote on new items.",
        ["The texts do not predict votes better than length alone or a constant does."],
    )


def test_too_few_items_give_no_forecast():
    items = items_of([pair(n, {"a": 1.0, "b": 0.0}) for n in range(19)])
    assert forecast(items, word_features(items), ["mean"]) is None


def test_ratings_have_a_constant_that_knows_their_share():
    rows = [rated(n, {f"p{k}": 1.0 if k < 3 else 0.0 for k in range(4)}) for n in range(24)]
    items = items_of(rows)
    found = forecast(items, word_features(items), ["mean"])
    assert found.values == {}
    assert found.answers["constant"][:, 0] == pytest.approx(np.full(24, 0.75), abs=0.02)


def test_embeddings_are_reduced_on_the_training_side():
    vectors = rng().normal(size=(30, 6)) * [9, 5, 1, 1, 1, 0]
    columns = embedding_features(vectors)(np.arange(20))
    assert columns.shape == (30, 6)
    centred = vectors - vectors[:20].mean(0)
    distance = np.linalg.norm(centred[3] - centred[25])
    assert np.linalg.norm(columns[3] - columns[25]) == pytest.approx(distance)


@pytest.mark.parametrize(
    ("column", "votes", "intercept", "expected"),
    [
        (0.0, [[3.0, 1.0], [0.0, 0.0]], False, 0.5),
        (0.0, [[3.0, 1.0], [0.0, 0.0]], True, 0.7),
        (1.0, [[3.0, 0.0], [1.0, 0.0]], False, 0.9),  # one-sided
    ],
)
def test_share_without_anything_to_learn_from(column, votes, intercept, expected):
    features = np.full((2, 1), column)
    fit = fit_share(features, np.array(votes), np.arange(2), intercept=intercept)
    assert fit(features) == pytest.approx([expected] * 2)


def test_share_learns_a_known_slope():
    x = rng().normal(size=(4000, 1))
    p = 1 / (1 + np.exp(-1.5 * x[:, 0]))
    yes = rng(1).binomial(10, p).astype(float)
    fit = fit_share(x, np.stack([yes, 10 - yes], axis=1), np.arange(4000) % 50, intercept=False)
    assert fit(np.array([[1.0]]))[0] == pytest.approx(1 / (1 + np.exp(-1.5)), abs=0.02)


def test_turning_keeps_distances_and_the_first_columns():
    design = rng().normal(size=(9, 6))
    found = turned(design, 0)
    assert found[:, :2].tolist() == design[:, :2].tolist()
    np.testing.assert_allclose(found @ found.T, design @ design.T)
    assert turned(design[:, :3], 0).tolist() == design[:, :3].tolist()


def test_opposite_sides_in_closed_form():
    prior = np.array([[0.25, 0.5, 0.25]])
    counts = np.array([[2.0, 1.0, 2.0]])
    m = scores.prior_votes(prior, counts)
    a, total = m / 4 + 2, m + 5
    found = scores.opposite_sides(prior, counts)
    assert found[0] == pytest.approx(2 * a * a / (total * (total + 1)))


@pytest.mark.parametrize("votes", [5, 3])
def test_prior_votes_and_chance_of_split_recover_the_simulation(votes):
    generator = rng(3)
    prior = generator.dirichlet([4, 2, 4], 2000)
    shares = np.stack([generator.dirichlet(8 * row) for row in prior])
    counts = np.stack([generator.multinomial(votes, row) for row in shares])
    answers = np.array([1.0, 0.5, 0.0])
    rows = [pair(n, np.repeat(answers, row)) for n, row in enumerate(counts)]
    items = items_of(rows)
    assert items.counts.tolist() == counts.tolist()
    assert scores.prior_votes(prior, items.counts) == pytest.approx(8, rel=0.5)
    found = scores.chance_of_split(prior, items)
    assert found.mean() == pytest.approx(items.split.mean(), abs=0.03)


def test_votes_against_each_measure_by_hand():
    items = items_of([pair(n, {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.5}) for n in range(4)])
    mean = np.tile([1.0, 0.0], (4, 1))
    cautious = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    advice = weigh_measures(items, {"mean": mean, "quantile:0.1": cautious})
    first, second = (
        {name: each.estimate for name, each in vars(choice).items() if name != "measure"}
        for choice in advice.choices
    )
    assert (first["against"], first["differs"], first["many_against"]) == (0.25, 0.0, 0.0)
    assert second == {
        "differs": 0.25,
        "against": (3 * 1 + 2) / 16,
        "against_there": 0.5,
        "mean_against_there": 0.25,
        "many_against": 0.25,
    }
    assert advice.majority_against == 0.25
    assert "no difference that these votes can show" in advice.sentence
    same = weigh_measures(items, {"mean": mean, "cvar:0.1": mean})
    assert same.sentence.endswith("Cautious measures never choose differently: use the mean.")
    assert weigh_measures(items, {}) is None


@pytest.mark.parametrize(
    ("better", "words"), [(True, "serves more people"), (False, "costs votes")]
)
def test_advice_says_whom_caution_serves(better, words):
    items = items_of([pair(n, {"a": 1.0, "b": 1.0, "c": 0.0}) for n in range(12)])
    right, wrong = np.tile([1.0, 0.0], (12, 1)), np.tile([0.0, 1.0], (12, 1))
    wrong[0] = right[0]
    mean, cautious = (wrong, right) if better else (right, wrong)
    assert words in weigh_measures(items, {"mean": mean, "cvar:0.1": cautious}).sentence


def test_chances_are_brought_to_the_level_of_other_groups():
    generator, rows = rng(7), []
    chance = generator.uniform(0.2, 0.9, 400)
    for number, p in enumerate(chance):
        opposed = generator.random() < p / 2  # half as many are split as the chances say
        rows.append(pair(number, [1, 1, not opposed, not opposed], block=f"b{number // 10}"))
    items = items_of(rows, by="block")
    found = scores.calibrated(chance, items)
    assert found.mean() == pytest.approx(items.votes.table.counts.contested.mean(), abs=0.01)
    assert np.corrcoef(np.argsort(np.argsort(found)), np.argsort(np.argsort(chance)))[0, 1] > 0.98
    alone = items_of([{**row, "block": "b"} for row in rows], by="block")
    assert scores.calibrated(chance, alone).tolist() == chance.tolist()


def test_words_of_few_texts():
    rows = [pair(n, {"a": 1.0, "b": 0.0}) for n in range(2)]
    for row, words in zip(rows, (["one", "two"], ["three", "four"]), strict=True):
        row["responses"] = words
    items = items_of(rows)
    assert word_features(items)(np.arange(4)).shape == (4, 0)  # no word stands in two texts
    rows[1]["responses"] = ["one", "six"]
    items = items_of(rows)
    assert word_features(items)(np.arange(4)).tolist() == [[1.0], [0.0], [1.0], [0.0]]


def test_share_skips_folds_that_lack_an_answer():
    votes = np.array([[0.0, 4.0]] * 5 + [[4.0, 0.0]])
    x = np.arange(6.0)[:, None]
    fit = fit_share(x, votes, np.arange(6), intercept=True)
    assert fit(x)[5] > fit(x)[0]
