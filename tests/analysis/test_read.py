import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidden_context import heads
from hidden_context.analysis.read.files import read_score_file
from hidden_context.analysis.read.heads import (
    choose_head,
    guess_head_type,
    head_files_of,
    head_for_width,
    known_column,
    saved_head,
    saved_likelihood,
)
from hidden_context.data.importers import read_row
from hidden_context.errors import CheckpointError, DataError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.head_file import (
    HeadFile,
    forget_heads,
    heads_folder,
    save_heads,
)
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.scoring.columns import added_columns
from support.score_rows import pair, write

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FOLDER = "runs/{}_Llama-2-7b-hf__0_3e-06_cosine_1_peft_last_checkpoint/eval_results_both.jsonl"


@pytest.mark.parametrize(
    ("width", "file", "name", "head_type"),
    [
        (1, "s.jsonl", "", "base"),
        (2, "s.jsonl", "", "mean_and_variance"),
        (3, "s.jsonl", "both_categorical", "categorical"),
        (2, "s.jsonl", "both_categorical", "categorical"),
        (2, "s.jsonl", "categorical", "categorical"),
        (10, "s.jsonl", "both_mean_and_variance", "mean_and_variance"),
        (2, "s.jsonl", "chat_vs_base", "mean_and_variance"),
        (2, FOLDER.format("categorical"), "", "categorical"),
        (2, FOLDER.format("base"), "both_categorical", "categorical"),
        (2, "base_runs/s.jsonl", "", "mean_and_variance"),
        (4, "s.jsonl", "both_factor", "factor"),
        (6, FOLDER.format("mixture"), "", "mixture"),
    ],
)
def test_the_head_is_read_off_name_folder_or_width(width, file, name, head_type):
    assert guess_head_type(width, file=file, name=name) == head_type


@pytest.mark.parametrize("width", [3, 10, 15])
def test_a_wide_head_that_nothing_names_is_not_guessed(width):
    words = f"c/s.jsonl, field 'f': {width} numbers per text, and the head that wrote them is"
    with pytest.raises(DataError) as caught:
        choose_head(width, file="c/s.jsonl", field="f", name="both_new")
    assert words in str(caught.value)
    assert "Name it with --head; or put the file beside s.jsonl.heads" in str(caught.value)
    assert choose_head(width, file="c/s.jsonl", field="f", head_type="factor").num_outputs == width


@pytest.mark.parametrize(
    ("kind", "width", "likelihood", "options"),
    [
        ("scalar", 1, "logistic", {}),
        ("mean_and_variance", 2, None, {"likelihood": "probit"}),
        ("mean_and_variance", 2, "logistic", {"likelihood": "logistic"}),
        ("categorical", 7, None, {"num_atoms": 7}),
        ("factor", 4, None, {"num_factors": 2}),
        ("mixture", 6, None, {"num_components": 2}),
        ("quantile", 4, None, {"num_atoms": 4}),
        ("ensemble", 5, None, {}),
    ],
)
def test_every_head_has_the_width_of_the_file_and_the_likelihood_asked_for(
    kind, width, likelihood, options
):
    head = heads.make("base" if kind == "scalar" else kind, **options)
    assert head_for_width(kind, width, file="f", field="c", likelihood=likelihood) == head


@pytest.mark.parametrize(
    ("head_type", "width", "words"),
    [
        ("base", 2, "f, field 'c': 2 numbers per text, but a base head writes 1."),
        ("mean_and_variance", 1, "1 number per text, but a mean_and_variance head writes 2."),
        ("categorical", 1, "1 number per text, but a categorical head writes at least 2."),
        ("factor", 1, "1 number per text, but a factor head writes at least 2."),
        ("mixture", 7, "7 numbers per text, but a mixture head writes 6 or certain larger"),
        ("ensemble", 6, "6 numbers per text, but an ensemble head writes 5. Its members"),
    ],
)
def test_a_width_that_no_such_head_writes_is_refused(head_type, width, words):
    with pytest.raises(DataError) as caught:
        head_for_width(head_type, width, file="f", field="c")
    assert words in str(caught.value)


def test_the_head_beside_the_file_goes_before_a_guess_and_after_what_is_asked_for(tmp_path):
    file = str(tmp_path / "scores.jsonl")
    assert saved_head(file) is None
    saved = heads.make("categorical", num_atoms=2, entropy_coeff=0.3)
    HeadFile(saved).save(tmp_path)
    assert saved_head(file) == saved

    def choose(width, **options):
        return choose_head(width, file=file, field="c", **options)

    assert choose(2).type == "mean_and_variance"
    assert choose(2, saved=saved) == saved
    assert choose(2, saved=saved, head_type="categorical", likelihood="logistic") == saved
    assert choose(2, saved=saved, head_type="mean_and_variance").type == "mean_and_variance"
    with pytest.raises(DataError, match=r"3 numbers .*reward_head\.json writes 2"):
        choose(3, saved=saved)
    logistic = heads.make("mean_and_variance", likelihood="logistic")
    assert choose(2, saved=logistic) == logistic
    assert choose(2, saved=logistic, likelihood="probit").likelihood == "probit"
    ensemble = heads.make("ensemble", member=logistic, num_members=2)
    assert choose(4, saved=ensemble) == ensemble
    assert choose(4, saved=ensemble, likelihood="probit").member.likelihood == "probit"
    scalar = heads.make("base")
    assert choose(1, saved=scalar, head_type="scalar") == scalar


def test_what_was_learned_beside_the_network_is_read_with_the_head(tmp_path):
    file = tmp_path / "scores.jsonl"
    assert saved_likelihood(file) is None
    head = heads.make("base")
    HeadFile(head).save(tmp_path)
    assert saved_likelihood(file).options == LikelihoodOptions()
    save_likelihood(tmp_path, make_likelihood(head, LikelihoodOptions(5)))
    found = saved_likelihood(file)
    assert (found.head, found.outcomes.levels) == (head, 5)
    beside = ["reward_head.json", "likelihood.json", "likelihood.safetensors"]
    beside += ["objective.json", "objective.safetensors"]  # of the first format
    assert head_files_of(file) == [tmp_path / name for name in beside]
    (tmp_path / "likelihood.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the checkpoint is damaged"):
        saved_likelihood(file)


def factor(names, column="annotator"):
    options = LikelihoodOptions(inference="map", names=names, column=column)
    return make_likelihood(heads.make("factor", num_factors=2), options)


def test_each_model_s_head_is_kept_beside_the_file(tmp_path):
    file = tmp_path / "s.jsonl"
    HeadFile(heads.make("base")).save(tmp_path)  # a checkpoint around a file of other models
    likelihoods = {"a.1/..": factor(("ann", "bob")), "..": make_likelihood(heads.make("base"))}
    save_heads(file, likelihoods)
    assert {path.name for path in heads_folder(file).iterdir()} == {"a%2E1%2F%2E%2E", "%2E%2E"}
    assert saved_head(file, "..").type == "base"
    found = saved_likelihood(file, "a.1/..")
    expected = likelihoods["a.1/.."]
    assert (found.head, found.options) == (expected.head, expected.options)
    assert known_column(file) == "annotator"
    # a model that is not among them, and the only one where there are two, is not known
    assert saved_head(file, "b", alone=False) is None
    assert saved_likelihood(file, alone=False) is None
    assert saved_head(file, "b").type == "base"
    assert heads_folder(file) / "%2E%2E" / "reward_head.json" in head_files_of(file)
    with pytest.raises(DataError, match=r"5 numbers .*%2E1%2F%2E%2E/reward_head\.json writes 4"):
        choose_head(5, file=str(file), field="c", name="a.1/..", saved=found.head)
    save_heads(file, {"a": factor(("ann",), "who"), "b": factor(("ann",))})
    assert saved_head(file, "..", alone=False) is None
    with pytest.raises(DataError, match=r"by different columns \(annotator, who\)"):
        known_column(file)
    forget_heads(file)
    assert not heads_folder(file).exists()
    assert known_column(file) is None
    save_heads(file, {"evaluation": factor(("ann",))})  # the only one, so that of a bare file too
    assert saved_head(file).num_outputs == saved_head(file, "evaluation").num_outputs == 4
    assert known_column(file) == "annotator"


@pytest.fixture
def read(tmp_path):
    """Read rows as a file."""
    return lambda rows, name="scores.jsonl", **options: read_score_file(
        write(tmp_path / name, rows), **options
    )


@pytest.fixture
def read_pairs(read):
    """Read rows with one pair of raw outputs beside these columns."""
    return lambda said, **options: read(
        [pair([1.0], [0.0], **columns) for columns in said], **options
    )[CHOSEN]


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.jsonl.gz"])
def test_pairs_become_arrays_with_labels(read, name):
    rows = [
        pair([1, 2.5], [0.25, -1.0], data_subset="helpful", objective="harmless"),
        pair(None, None, data_subset="left out"),
        pair([1.0, 2.0], None, data_subset="left out"),
        pair([3.0, 4.0], [5.0, 6.0], data_subset=None),
    ]
    ((column, pairs),) = read(rows, name).items()
    assert column == pairs.column == "reward_output_chosen"
    assert pairs.chosen.dtype == np.float64
    assert pairs.chosen.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert pairs.rejected.tolist() == [[0.25, -1.0], [5.0, 6.0]]
    assert {k: v.tolist() for k, v in pairs.labels.items()} == {
        "data_subset": ["helpful", ""],
        "objective": ["harmless", ""],
    }
    assert (pairs.width, pairs.left_out) == (2, 2)


def test_responses_keep_their_rows_and_a_null_leaves_its_row_out_of_its_column_only(read):
    columns = {
        "a": [[[1.0], [2.0]], [[3.0], None], None, [[4.0], [5.0]]],
        "b_categorical": [[[0.0, 1.0, 2.0]], [[3.0, 4.0, 5.0]], [[6.0, 7.0, 8.0]] * 2, None],
    }
    rows = [
        {f"reward_outputs_{name}": values[number] for name, values in columns.items()}
        for number in range(4)
    ]
    a, b = read(rows).values()
    assert (a.name, b.name) == tuple(columns)
    assert a.outputs.tolist() == [[1.0], [2.0], [4.0], [5.0]]
    assert (a.num_responses.tolist(), a.left_out) == ([2, 2], 2)
    assert a.as_pairs().tolist() == [[[1.0], [2.0]], [[4.0], [5.0]]]
    assert b.num_responses.tolist() == [1, 1, 2]
    assert (b.outputs.shape, b.left_out, b.as_pairs()) == ((4, 3), 1, None)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", ["pair", "responses"])
def test_reasons_beside_null_rewards_are_no_rewards(read, kind, order):
    head = heads.make("base")
    rows = [
        added_columns(kind, "a", {"raw": [[1.0], [0.0]]}, head),
        added_columns(kind, "a", {"raw": [None, [0.0]], "reasons": ["too long", None]}, head),
    ]
    column = {"pair": "reward_output_chosen", "responses": "reward_outputs_a"}[kind]
    assert f"{column}_reason" in rows[1]
    ((found, scores),) = read(rows[::order]).items()
    assert (found, scores.left_out, scores.rows.tolist()) == (column, 1, [0 if order > 0 else 1])


def test_responses_need_no_valid_votes_and_a_model_may_be_called_reason(read):
    row = {"reward_outputs_reason": [[1.0]], "preference": "the first"}
    assert [each.name for each in read([row]).values()] == ["reason"]


def test_pairs_scored_by_several_models_are_a_set_each(read):
    rows = []
    for line in range(3):
        row = {"preference": [1, None, 0.25][line]}
        for name, kind in (("small", "base"), ("large_categorical", "categorical")):
            head = heads.make(kind)
            raw = [[float(line)] * head.num_outputs, [0.0] * head.num_outputs]
            reasons = None
            if name == "small" and line == 1:
                raw, reasons = [raw[0], None], [None, "too long"]
            scored = {"raw": raw, "reasons": reasons}
            row |= added_columns("pair", name, scored, head, several_models=True)
        rows.append(row)
    large, small = read(rows).values()
    assert (large.name, small.name) == ("large_categorical", "small")
    assert (small.chosen.tolist(), small.left_out) == ([[0.0], [2.0]], 1)
    assert small.preference.tolist() == [1.0, 0.25]
    assert (large.chosen.shape, large.left_out) == ((3, 10), 0)
    assert large.preference.tolist() == [1.0, 1.0, 0.25]
    assert large.column == "reward_output_chosen_large_categorical"


def test_what_several_annotators_said_is_the_share_of_their_votes(read_pairs):
    said = [
        {"annotations": [{"annotator": "a", "preference": 1}, {"annotator": 7, "strength": -1}]},
        {"strength": -3},
        {"strength": 0, "annotator": "b"},
        {"preference": 0.25, "strength": -2, "margin": -1.5},
        {"rating_chosen": 1, "rating_rejected": 5},
        {"preference": None},
    ]
    assert read_pairs(said).preference.tolist() == [0.5, 0.0, 0.5, 0.25, 0.0, 1.0]
    texts = {"chosen": "", "rejected": ""}
    kept = read_pairs(said, annotator_column="annotator").said
    assert kept == [read_row({**texts, **columns}) for columns in [*said[:5], {}]]
    assert [one.source_lines for one in kept[:5]] == [(1,), (2,), (3,), (4,), (5,)]
    rated = said[4]  # ratings beside a vote decide nothing
    both = [rated | {"preference": 1}, rated | {"annotations": [{"strength": 2}]}]
    assert read_pairs(both).preference.tolist() == [1.0, 1.0]
    nobody = read_pairs(said).said
    assert [[j.annotator for j in one.judgements] for one in nobody] == [
        *(["a", 7], [None], [None], [None], [None] * 3, [None])
    ]


def test_a_pair_on_which_everybody_abstained_is_left_out_of_pairs_alone(read):
    said = [{"annotations": [{"annotator": "a"}, {}]}, {"annotations": [{}, {"preference": 0}]}]
    rows = [pair([1.0], [0.0], reward_outputs_a=[[1.0]], **columns) for columns in said]
    pairs, responses = read(rows).values()
    assert (pairs.left_out, pairs.preference.tolist(), pairs.rows.tolist()) == (1, [0.0], [1])
    assert len(pairs.said) == 1
    assert (responses.left_out, responses.rows.tolist()) == (0, [0, 1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[FLOATS] * 4), min_size=1, max_size=8))
def test_every_float64_comes_back_bit_for_bit(tmp_path_factory, quads):
    rows = [pair([a, b], [c, d]) for a, b, c, d in quads]
    path = write(tmp_path_factory.mktemp("floats") / "s.jsonl", rows)
    pairs = read_score_file(path)["reward_output_chosen"]
    assert np.hstack([pairs.chosen, pairs.rejected]).tobytes() == np.array(quads).tobytes()


GOOD = pair([1.0, 2.0], [3.0, 4.0])
CHOSEN, REJECTED = GOOD
TOO_SURE = {**GOOD, "annotations": [{"preference": 2}]}
RAGGED = {"reward_outputs_a": [[1.0], [2.0, 3.0]]}
UNSURE = pair([1.0], [2.0], annotations=[{"annotator": "a", "preference": None}])
BAD = {
    "missing column": ({"prompt": "x"}, CHOSEN, "present on line 1"),
    "missing side": ({CHOSEN: [1.0, 2.0]}, REJECTED, "missing"),
    "new column": ({**GOOD, "reward_outputs_a": [[1.0]]}, "reward_outputs_a", "missing on line 1"),
    "wrong width": ({**GOOD, REJECTED: [3.0]}, REJECTED, "its width is 1, but 2 on line 1"),
    "text": ({**GOOD, CHOSEN: ["1", 2.0]}, CHOSEN, "not '1'"),
    "truth value": ({**GOOD, CHOSEN: [True, 2.0]}, CHOSEN, "not True"),
    "null inside": ({**GOOD, CHOSEN: [None, 2.0]}, CHOSEN, "not null"),
    "nested": ({**GOOD, CHOSEN: [[1.0], 2.0]}, CHOSEN, "not [1.0]"),
    "bare number": ({**GOOD, CHOSEN: 1.0}, CHOSEN, "a list of numbers"),
    "empty list": ({**GOOD, CHOSEN: []}, CHOSEN, "a list of numbers"),
    "nan": ({**GOOD, CHOSEN: [math.nan, 2.0]}, CHOSEN, "nan is not a finite"),
    "infinity": ({**GOOD, REJECTED: [3.0, -math.inf]}, REJECTED, "-inf is not"),
    "huge integer": ({**GOOD, CHOSEN: [1.0, 10**400]}, CHOSEN, "not a finite"),
    "label": ({**GOOD, "data_subset": 3.5}, "data_subset", "text or an integer is needed, not 3.5"),
    "preference above 1": ({**GOOD, "preference": 1.5}, "preference", "from 0 to 1"),
    "preference in words": ({**GOOD, "preference": "tie"}, "preference", "not text ('tie')"),
    "preference that is no number": ({**GOOD, "preference": math.nan}, "preference", "(nan)"),
    "truth value as preference": ({**GOOD, "preference": True}, "preference", "value (True)"),
    "strength between levels": ({**GOOD, "strength": 0.5}, "strength", "an integer is needed"),
    "no annotations": ({**GOOD, "annotations": []}, "annotations", "at least one annotation"),
    "annotation": (TOO_SURE, "annotations[0].preference", "from 0 to 1"),
    "broken line": ('{"reward_output_chosen": [1.0,', None, "not valid JSON"),
    "not an object": ("[1, 2]", None, "JSON object"),
}


@pytest.mark.parametrize(("row", "field", "words"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, read, row, field, words):
    with pytest.raises(DataError) as caught:
        read([GOOD, "", row, GOOD])
    error = caught.value
    assert (error.file, error.line, error.field) == (str(tmp_path / "scores.jsonl"), 3, field)
    assert words in str(error)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([RAGGED], r"line 1, field 'reward_outputs_a\[1\]': its width is 2, but 1"),
        ([{"reward_outputs_a": 0.5}], r"one output per response is needed, not 0\.5"),
        ([], "no rows"),
        ([{"chosen": "a", "rejected": "b"}], "line 1: there is no reward_output_chosen"),
        ([{CHOSEN: [1.0]}], f"{REJECTED}': {CHOSEN} needs a matching {REJECTED}"),
        ([{f"{CHOSEN}_a": [1.0]}], f"{CHOSEN}_a needs a matching {REJECTED}_a"),
        ([pair(None, None)] * 2, "no row has a reward and a vote, of 2"),
        ([UNSURE], "no row has a reward and a vote, of 1"),
    ],
)
def test_files_without_what_is_needed_are_refused(read, rows, words):
    with pytest.raises(DataError, match=words):
        read(rows)


def test_a_label_may_be_an_integer_and_a_required_one_has_to_be_on_every_row(read_pairs):
    rows = [{"objective": 0, "data_subset": "x"}, {"objective": 7}]
    pairs = read_pairs(rows, require=("objective",))
    assert pairs.labels["objective"].tolist() == ["0", "7"]
    with pytest.raises(DataError, match="line 2, field 'data_subset': the column is missing"):
        read_pairs(rows, require=("data_subset",))
