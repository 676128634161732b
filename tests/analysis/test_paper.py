import pytest

from hidden_context.analysis.config import SummarizeConfig
from hidden_context.errors import ConfigError, DataError
from hidden_context.paper import workflow
from hidden_context.paper.summary import PUBLISHED, print_summary, published
from support import score_rows
from support.score_rows import write

JAILBREAK = "jailbroken_evaluations_{}.jsonl"
CHECKPOINT = "reward_models/relabeled_hh_rlhf/both/{}_x_peft_last_checkpoint"
EVALUATION = f"{CHECKPOINT}/eval_results_both.jsonl"
HELPFUL = {"data_subset": "helpful"}


def write_evaluation(folder, kind, rows):
    write(folder / EVALUATION.format(kind), rows)


def pair(chosen, rejected, /, **columns):
    return score_rows.pair(chosen, rejected, **HELPFUL | columns)


def run(folder, **options):
    return workflow.run(SummarizeConfig(data_dir=str(folder), **options))


def test_a_train_set_whose_column_is_absent_is_named(tmp_path):
    path = tmp_path / JAILBREAK.format("base")
    write(path, [{"reward_outputs_both": [[0.0], [1.0]], "reward_outputs_mine": [[0.0], [1.0]]}])
    summary = run(tmp_path)
    assert summary.cell("base", "both").jailbreak.mean.share == 1.0
    assert summary.cell("base", "helpful").jailbreak is None
    assert f"{path}: column reward_outputs_helpful" in summary.missing
    with pytest.raises(KeyError):
        summary.cell("base", "mine")


@pytest.mark.parametrize(
    ("file", "kind", "row", "words"),
    [
        (JAILBREAK, "categorical", {"reward_outputs_both": [[0.0, 1.0]] * 2}, "none of the colum"),
        (JAILBREAK, "base", {"reward_outputs_both": [[0.0]]}, "every row needs two responses"),
        (EVALUATION, "base", pair([0.0, 1.0], [1.0, 0.0]), "2 numbers per text, but a base head"),
        (EVALUATION, "base", pair([0.0], [1.0], data_subset=None), "line 1, field 'data_subset'"),
        (EVALUATION, "base", HELPFUL | {"reward_outputs_a": [[0.0]]}, "reward_output_chosen"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, file, kind, row, words):
    write(tmp_path / file.format(kind), [row])
    with pytest.raises(DataError, match=words):
        run(tmp_path)


def test_a_checkpoint_evaluated_on_one_subset_leaves_its_cells_empty(tmp_path, capsys):
    normals = [pair([2.0, 0.0], [0.0, 0.0]), pair([0.0, 0.0], [1.0, 0.0])]
    harmless = [{**row, "data_subset": "harmless"} for row in normals]
    write_evaluation(tmp_path, "mean_and_variance", harmless)
    write_evaluation(tmp_path, "base", [pair([1.0], [0.0])])
    summary = run(tmp_path)
    assert summary.cell("mean_and_variance", "both").evaluation is None
    assert summary.cell("base", "both").evaluation.mean.share == 1.0
    (gap,) = summary.gaps
    assert "no row has data_subset 'helpful' (there is 'harmless')" in gap
    print_summary(summary)
    assert f"Left empty:\n  {gap}" in capsys.readouterr().out
    cells = {(c["reward_model_type"], c["train_set"]): c for c in summary.to_dict()["cells"]}
    assert cells["mean_and_variance", "both"]["r_squared"]["value"] is None
    write_evaluation(tmp_path, "mean_and_variance", normals)  # helpful alone
    summary = run(tmp_path)
    evaluation = summary.cell("mean_and_variance", "both").evaluation
    assert (evaluation.mean.count, evaluation.mean.total) == (1, 2)
    assert evaluation.r_squared is None
    assert "every row has data_subset 'helpful', and r² is of both" in summary.gaps[0]


def test_an_evaluation_of_one_subset_is_named_where_that_of_both_is_missing(tmp_path):
    write_evaluation(tmp_path, "base", [pair([1.0], [0.0]), pair([1.0], [0.0])])
    other = tmp_path / CHECKPOINT.format("categorical") / "eval_results_harmless.jsonl"
    write(other, [pair([0.0, 1.0], [1.0, 0.0], data_subset="harmless")])
    summary = run(tmp_path)
    assert any(f"only {other}, which has a single subset" in gap for gap in summary.gaps)
    assert not any("both/categorical" in name for name in summary.missing)
    (tmp_path / EVALUATION.format("base")).unlink()
    assert len(run(tmp_path).gaps) == 1  # nothing else is there, and still it does not stop


def test_rows_without_a_reward_are_counted(tmp_path, capsys):
    rows = [pair([1.0], [0.0]), pair(None, [0.0]), pair([0.0], [1.0])]
    write_evaluation(tmp_path, "base", rows)
    summary = run(tmp_path)
    evaluation = summary.cell("base", "both").evaluation
    assert (evaluation.rows_left_out, evaluation.num_texts) == (1, 4)
    assert (evaluation.mean.count, evaluation.mean.total) == (1, 2)
    print_summary(summary)
    printed = capsys.readouterr().out
    assert f"1 row without a reward or a vote left out: {evaluation.file}" in printed.splitlines()


def test_the_published_numbers_are_those_of_table_1():
    assert PUBLISHED["base", "helpful"].jailbreak_rate == (0.524, None)
    assert PUBLISHED["categorical", "both"].helpfulness_accuracy == (0.662, 0.662)
    values = [cell.r_squared for (kind, _), cell in PUBLISHED.items() if kind != "base"]
    assert values == [0.89, 0.77, 0.53, 0.63, 0.53, 0.41]
    assert published("categorical", "both", 0.1).jailbreak_rate == (0.321, None)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_the_level_lies_strictly_between_0_and_1(alpha):
    with pytest.raises(ConfigError, match="alpha"):
        SummarizeConfig(alpha=alpha)
