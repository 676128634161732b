import json
from pathlib import Path

import pytest

from hidden_context.cli.main import main
from hidden_context.data.storage.files import iter_jsonl
from support.paper_layout import write_rows


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {
            "prompt": f"prompt {i // 2}",
            "chosen": " good",
            "rejected": " bad" if i else " ",
            "objective": "helpful" if i % 3 else "harmless",
            "extra": {"n": i},
        }
        for i in range(60)
    ]
    return Path(write_rows(tmp_path / "pairs.jsonl", rows))


def read(path):
    return [row for _, row in iter_jsonl(path)]


def test_usage_and_each_verb_s_help(capsys):
    assert main(["data", "--help"]) == 0
    usage = capsys.readouterr().out
    for verb in ("download", "import", "inspect", "split"):
        assert f"  {verb} " in usage
        with pytest.raises(SystemExit) as caught:
            main(["data", verb, "--help"])
        assert caught.value.code == 0
        assert f"usage: hidden-context data {verb}" in capsys.readouterr().out
    assert main(["data"]) == 2
    assert main(["data", "dance"]) == 2
    assert "'dance' is not a verb of data" in capsys.readouterr().err


def test_inspect(pairs, capsys):
    assert main(["data", "inspect", str(pairs)]) == 0
    out = capsys.readouterr().out
    assert f"{pairs}: 59 of 60 examples kept (1 dropped because a side is empty)." in out
    assert "columns: prompt, chosen, rejected, objective, extra" in out
    assert "objective: harmless 19, helpful 40" in out
    assert "prompts: 30 distinct; 29 examples repeat an earlier example's prompt" in out
    assert "groups: 30, each of one first user turn, which a division leaves together" in out
    assert "the largest holds 2 of 59 examples" in out
    assert main(["data", "inspect", str(pairs), "--split_by=objective"]) == 0
    by_column = capsys.readouterr().out
    assert "groups: 2, each of one value of 'objective'" in by_column
    assert "the largest holds 40 of 59 examples" in by_column
    row = next(line for line in out.splitlines() if line.strip().startswith("text"))
    assert row.split() == ["text", "12", "13", "13", "14", "14"]


def test_inspect_counts_judgements_and_annotators(tmp_path, capsys):
    said = [{"annotator": "ann", "ranks": [1, 2, 3]}, {"annotator": "bob", "abstains": True}]
    row = {"prompt": "p", "responses": [" a", " b", " c"], "judgements": said}
    assert main(["data", "inspect", write_rows(tmp_path / "a.jsonl", [row])]) == 0
    out = capsys.readouterr().out
    assert (
        "of 1 example kept (1 row of the source was a ranking, 1 abstention, which is not a vote)."
        in out
    )
    assert "responses: 3; judgements: 1\n  votes: 3 on 3 pairs, 1 each (mean 1.0); several" in out
    assert "people judged 0 of them\n  No item was judged by several people" in out
    assert "Fewer than five annotators are named, so annotators are not compared." in out
    assert "abstentions: 1 (not counted as votes)" in out


def test_inspect_reads_all_splits_of_a_folder(tmp_path, pairs, capsys):
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text(pairs.read_text())
    assert main(["data", "inspect", str(folder)]) == 0
    assert capsys.readouterr().out.count("59 of 60 examples kept") == 2
    assert main(["data", "inspect", str(folder), "--split", "dev"]) == 2
    assert "Splits in" in capsys.readouterr().err
    assert main(["data", "split", str(folder), "--output", str(tmp_path / "o")]) == 2
    assert "name one with --split" in capsys.readouterr().err


def test_split_agrees_with_the_split_of_training(pairs, tmp_path):
    from hidden_context.data.splits.held_out import load_splits

    out = tmp_path / "out"
    argv = ["data", "split", str(pairs), "--output", str(out), "--eval_fraction", "0.3"]
    assert main(argv) == 0
    train, test = read(out / "both" / "train.jsonl.gz"), read(out / "both" / "test.jsonl.gz")
    assert len(train) + len(test) == 59
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    splits = load_splits(pairs, eval_fraction=0.3)
    assert test == [example.columns for example in splits.test]
    again = load_splits(out)
    assert [p.columns for p in again.train] == train
    assert again.prompt_overlap == 0


def test_download_from_a_mirror(tmp_path, capsys):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "jailbroken_evaluations_categorical.jsonl").write_text("{}\n")
    argv = ["data", "download", "--output", str(tmp_path / "out"), "--mirror", str(mirror)]
    assert main([*argv, "--only", "evaluations"]) == 1
    captured = capsys.readouterr()
    assert "1 fetched, 0 already there, 11 missing" in captured.out
    assert "jailbroken_evaluations_base.jsonl" in captured.err
    assert main([*argv, "--only", "data"]) == 2
    assert "The source has none of the files (7 wanted" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_never_overwrites_what_it_reads(pairs, tmp_path, capsys, split):
    root = tmp_path / "rel"
    argv = ["data", "split", str(pairs), "--output", str(root), "--eval_fraction", "0.3"]
    assert main(argv) == 0
    files = {name: (root / "both" / f"{name}.jsonl.gz").read_bytes() for name in ("train", "test")}
    (tmp_path / "link").symlink_to(root)
    for output in (root, tmp_path / "other" / ".." / "rel", tmp_path / "link"):
        argv = ["data", "split", str(root), "--split", split, "--output", str(output)]
        assert main(argv) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert ".jsonl.gz is part of the data to divide" in error
    single = root / "both" / "train.jsonl.gz"
    assert main(["data", "split", str(single), "--output", str(root)]) == 2
    # a split that is not read, but stands in the same folder, is as safe
    (root / "both" / "dev.jsonl.gz").write_bytes(files["test"])
    assert main(["data", "split", str(root), "--split", "dev", "--output", str(root)]) == 2
    for name, content in files.items():
        assert (root / "both" / f"{name}.jsonl.gz").read_bytes() == content
    inside = root / "fold_1" / "both" / "test.jsonl.gz"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(files["train"])
    assert main(["data", "split", str(inside), "--output", str(root), "--folds", "2"]) == 2
    assert inside.read_bytes() == files["train"]
    assert not (root / "fold_0").exists()
    # what is not read may be written again
    assert main(["data", "split", str(pairs), "--output", str(root), "--folds", "2"]) == 0


def test_split_by_column_and_balanced(tmp_path, capsys):
    path, sizes = tmp_path / "votes.jsonl", (40, 30, 10, 8, 7, 5)
    rows = [
        {"prompt": "p", "chosen": f" {n}", "rejected": " b", "debate": debate, "stance": n % 2}
        for debate, size in enumerate(sizes)
        for n in range(size)
    ]
    argv = ["data", "split", write_rows(path, rows), "--output", str(tmp_path / "out")]
    assert main(argv) == 2
    assert "--split_by annotator or --split_by response" in capsys.readouterr().err
    for balance in ([], ["--split_balance"], [f"--split_balance={tmp_path / 'm.json'}"]):
        assert main([*argv, "--split_by=debate", *balance, "--folds=3"]) == 0
        tests = [read(tmp_path / f"out/fold_{n}/both/test.jsonl.gz") for n in range(3)]
        assert sum(map(len, tests)) == 100
        debates = [{row["debate"] for row in rows} for rows in tests]
        assert sum(map(len, debates)) == len(set.union(*debates)) == 6
        if balance:
            assert sorted(map(len, tests)) == [30, 30, 40]
    beside = json.loads((tmp_path / "votes.jsonl.splits").read_text())
    assert beside == json.loads((tmp_path / "m.json").read_text())
    assert main([*argv, "--split_by=debates"]) == 2
    assert "field 'debates': 100 of 100 examples have no value" in capsys.readouterr().err
