"""Divisions balanced by the sizes of groups, and the file that keeps them."""

import json
import multiprocessing
import random
import warnings
from collections import Counter

import pytest

from hidden_context.data.importers import read_row
from hidden_context.data.splits.division import SplitOptions, folds, split_by_prompt
from hidden_context.data.splits.manifest import balanced_sides
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning

TWO = {"rest": 0.9, "held out": 0.1}
SIZES = (300, 250, 120, 90, 60, 40, 40, 30, 30, 20, 10, 10)


def rows(sizes=SIZES, start=0):
    """Pairs of topics of given sizes."""
    return [
        read_row({"prompt": f"p{n}", "chosen": " a", "rejected": " b", "topic": f"topic {t}"})
        for t, size in enumerate(sizes, start)
        for n in range(size)
    ]


def topics(examples):
    return {example.columns["topic"] for example in examples}


def test_a_share_far_off_is_warned_of_with_both_shares_and_the_remedy():
    examples = rows()
    with pytest.warns(HiddenContextWarning) as caught:
        _, held_out = split_by_prompt(examples, 0.1, options=SplitOptions("topic"))
    (warning,), count = caught, len(held_out)
    assert str(warning.message) == (
        f"The evaluation set should have 10.0% of the examples but has {count / 1000:.1%} "
        f"({count} of 1000): a hash decides the side of each value of 'topic'; --split_balance "
        "balances the sides by size."
    )
    with pytest.warns(HiddenContextWarning, match=r"Each fold should have 20.0% .* to .*of 1000\)"):
        folds(examples, 5, options=SplitOptions("topic"))


def test_nothing_is_said_of_a_share_that_is_near():
    near = [read_row({"prompt": f"{n}", "chosen": "a", "rejected": "b"}) for n in range(2000)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, held_out = split_by_prompt(near, 0.1)
        folds(near, 4)
        split_by_prompt(near[:3], 0.1)  # one row more or less
        split_by_prompt(near[:10], 0.0)
    assert abs(len(held_out) - 200) < 40


@pytest.fixture
def options(tmp_path):
    return SplitOptions("topic", tmp_path / "sides.json")


def division_in(path):
    return json.loads(path.read_text())["divisions"]["evaluation"]


def test_groups_are_balanced_by_size(options):
    examples = rows()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rest, held_out = split_by_prompt(examples, 0.1, options=options)
    assert len(held_out) == 100
    assert not topics(rest) & topics(held_out)
    parts = folds(examples, 3, options=options)
    assert sorted(len(part) for _, part in parts) == [330, 330, 340]
    content = json.loads(options.manifest.read_text())
    assert (content["format"], content["split_by"]) == (1, "topic")
    division = division_in(options.manifest)
    assert division["shares"] == TWO
    assert Counter(division["sides"].values())["held out"] == len(topics(held_out))
    assert not any("topic" in digest for digest in division["sides"])  # digests, not texts


def test_rows_added_later_move_nothing(options, tmp_path):
    rest, held_out = split_by_prompt(rows(), 0.1, options=options)
    old = division_in(options.manifest)["sides"]
    more = rows() + rows((500, 70, 50), start=3) + rows((40, 30, 10, 20), start=len(SIZES))
    rest_later, held_later = split_by_prompt(more, 0.1, options=options)
    assert topics(rest) <= topics(rest_later)
    assert topics(held_out) <= topics(held_later)
    sides = division_in(options.manifest)["sides"]
    assert len(sides) == len(SIZES) + 4
    assert old.items() <= sides.items()
    written = options.manifest.read_bytes()
    split_by_prompt(rows(), 0.1, options=options)
    assert options.manifest.read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == ["sides.json"]


def test_groups_too_large_to_balance_are_named(options):
    words = r"has 30.0% \(300 of 1000\): examples of one value of 'topic' stay together, up to 400"
    with pytest.warns(HiddenContextWarning, match=words):
        split_by_prompt(rows((300, 300, 400)), 0.1, options=options)


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_close_whatever_the_sizes(tmp_path, seed):
    draw = random.Random(seed)
    keys = [f"{g}" for g in range(60) for _ in range(int(draw.paretovariate(1)))]
    most = max(Counter(keys).values())
    held = balanced_sides(tmp_path / "a", keys, TWO, "evaluation", None).count("held out")
    if most < 0.9 * len(keys):
        assert abs(held - 0.1 * len(keys)) <= 1
    shares = dict.fromkeys("abcd", 0.25)
    found = Counter(balanced_sides(tmp_path / "a", keys, shares, "fold", None))
    if most < 0.25 * len(keys):
        assert max(found.values()) - min(found.values()) <= 2


def test_another_division_and_another_file_are_refused(options):
    split_by_prompt(rows(), 0.1, options=options)
    with pytest.raises(ConfigError, match=r"sides.json was made with shares for evaluation .*0\.1"):
        split_by_prompt(rows(), 0.2, options=options)
    with pytest.raises(ConfigError, match="was made with split_by topic, but this run has None"):
        split_by_prompt(rows(), 0.1, options=SplitOptions(None, options.manifest))
    options.manifest.write_text('{"format": 1}')
    with pytest.raises(DataError, match="not a split manifest"):
        split_by_prompt(rows(), 0.1, options=options)
    with pytest.raises(ConfigError, match="needs the name of a file"):
        SplitOptions.of(None, "true", "owner/data")


def _divide(path, number):
    keys = [f"{n}" for n in range(40 * number, 40 * number + 60)]  # some are its neighbour's too
    return dict(zip(keys, balanced_sides(path, keys, TWO, "evaluation", None), strict=True))


def test_processes_that_divide_at_once_agree(tmp_path):
    path = tmp_path / "sides.json"
    context = multiprocessing.get_context("fork")
    with context.Pool(6) as pool:
        found = pool.starmap(_divide, [(path, number) for number in range(6)], chunksize=1)
    sides = {}
    for key, side in (pair for each in found for pair in each.items()):
        assert sides.setdefault(key, side) == side
    assert len(sides) == 260
    assert len(division_in(path)["sides"]) == 260


def test_a_division_that_leaves_a_side_empty_is_not_kept(tmp_path):
    # every side gets a group where there are enough
    two = balanced_sides(tmp_path / "a", ["x"] * 9 + ["y"], TWO, "evaluation", None)
    assert two == ["rest"] * 9 + ["held out"]
    assert balanced_sides(tmp_path / "b", ["x"], TWO, "evaluation", None) == ["rest"]
    path = tmp_path / "splits.json"
    shares = {f"fold {number}": 0.2 for number in range(5)}
    assert len({*balanced_sides(path, ["a", "b", "c"], shares, "fold", None)}) == 3
    assert not path.exists()
    balanced_sides(path, ["a", "b", "c"], {"rest": 0.5, "held out": 0.5}, "fold", None)
    assert path.exists()
