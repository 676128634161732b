import pytest
import torch

from hidden_context.data.dialogue import join
from hidden_context.data.example import ModelInput
from hidden_context.errors import ConfigError, DataError
from hidden_context.models.reward_model import RewardModel
from hidden_context.risk import parse
from hidden_context.scoring.columns import People, added_columns, risk_values
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.prepare import MarkedText, TokenIds
from hidden_context.scoring.requests import Scorer
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_backbone, tiny_tokenizer
from support.models import frozen_model
from support.paper_layout import reward_checkpoint

MEASURES = [parse("cvar:0.05"), parse("mean"), parse("quantile:0.1")]


@pytest.fixture(scope="module")
def normal(checkpoint):
    return Scorer(RewardModel.from_pretrained(checkpoint))


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    """A model whose tokenizer puts a BOS before every text, and which has a strict template."""
    template = "{% if messages|length > 2 %}{{ raise_exception('no') }}{% endif %}" + CHAT_TEMPLATE
    tokenizer = tiny_tokenizer(bos="<s>", frame="<s> $A", chat_template=template)
    folder = reward_checkpoint(
        tmp_path_factory.mktemp("models") / "framed", seed=3, tokenizer=tokenizer
    )
    return Scorer(RewardModel.from_pretrained(folder))


@pytest.fixture(scope="module")
def people(factor):
    return Scorer(RewardModel.from_pretrained(factor))


def test_texts_asked_together_have_the_models_own_raw_outputs(normal):
    texts = sample_texts(7, 3)
    answers = normal.raw(texts)
    alone = torch.cat([normal.model.raw_outputs([text]) for text in texts])
    assert answers.raw == pytest.approx(alone, abs=1e-5)
    assert answers.complete() is answers.raw
    ready = normal.prepare(texts)
    assert [one.num_tokens for one in ready] == [len(_bare(normal, text)) for text in texts]
    assert normal.raw([]).raw.shape == (0, 2)  # nothing is run where nothing can be scored
    assert normal.raw([""]).raw.isnan().all()


def test_a_marked_text_gets_no_second_bos(framed):
    text = sample_texts(1)[0]
    plain, marked, bare, ids = framed.raw(
        [text, MarkedText(f"<s>{text}"), MarkedText(text), TokenIds((1, *_bare(framed, text)))]
    ).raw
    assert marked == pytest.approx(plain, abs=1e-5)
    assert ids == pytest.approx(plain, abs=1e-5)
    assert (bare - plain).abs().max() > 1e-3


def _bare(scorer, text):
    return scorer.model.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_every_text_that_cannot_be_scored_has_its_own_reason(normal):
    prompt, long = "\n\nHuman: Tea?\n\nAssistant:", "word " * 200
    surrogate = "the text contains half a character (a lone surrogate at position 18)"
    given = [
        ("a fine text", None),
        (" \n", "it has no text"),
        (ModelInput(prompt + "  ", prompt), "nothing but white space follows the prompt"),
        (ModelInput(join(prompt, "Yes."), prompt), None),
        ("half a character: \ud800", surrogate),
        (TokenIds(()), "it has no tokens"),
        (TokenIds((5, 420)), "420 is not a token id of the model; its vocabulary has 420"),
        (long, f"it has {len(_bare(normal, long))} tokens, more than 128"),
        (TokenIds((5,) * 129), "it has 129 tokens, more than 128"),
        (MarkedText(""), "it has no text"),
    ]
    answers = normal.raw([asked for asked, _ in given])
    assert answers.reasons == [reason for _, reason in given]
    assert answers.raw.isnan().any(1).tolist() == [reason is not None for _, reason in given]
    with pytest.raises(DataError, match="text 1 cannot be scored: it has no text"):
        answers.complete()


def test_a_long_text_loses_its_beginning_where_that_is_wanted(framed):
    long = "word " * 200
    answers = Scorer(framed.model, over_length="truncate").raw([long, TokenIds((1, *[7] * 200))])
    assert answers.reasons == [None, None]
    assert answers.raw[:1] == pytest.approx(framed.model.try_raw_outputs([long]).raw, abs=1e-5)
    assert answers.raw[1:] == pytest.approx(framed.raw([TokenIds((1, *[7] * 127))]).raw, abs=1e-5)


def test_messages_go_through_the_chat_template(framed, normal):
    chat = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."}]
    silent = ModelInput([chat[0], {"role": "assistant", "content": " "}], chat[:1])
    answers = framed.raw([chat, silent, [{"role": "user", "content": 5}], chat[:1] * 3])
    assert answers.raw[0] == pytest.approx(framed.model.raw_outputs([chat])[0], abs=1e-5)
    assert answers.reasons[1] == "nothing but white space follows the prompt"
    assert "'content' has to be text" in answers.reasons[2]
    assert "the chat template refuses messages" in answers.reasons[3]
    with pytest.raises(ConfigError, match="no chat template"):
        normal.raw([chat])


def test_a_model_that_tokenizes_by_itself_is_asked_for_texts_alone(tmp_path):
    """Those on a frozen backbone do."""
    scorer = Scorer(frozen_model(tiny_backbone(tmp_path / "backbone"), embed="together"))
    ready = scorer.prepare(["four", MarkedText("<s>x"), TokenIds((1,)), "long " * 200])
    assert [one.num_tokens for one in ready] == [2, 0, 0, 251]
    answers = scorer.run(ready)
    assert answers.raw[:1] == pytest.approx(scorer.model.raw_outputs(["four"]), abs=1e-5)
    assert answers.raw[1:].isnan().all()
    assert all("reads the plain text" in reason for reason in answers.reasons[1:3])
    assert "tokens, more than 100" in answers.reasons[3]


@pytest.mark.parametrize(
    "head",
    ["base", "mean_and_variance", "categorical", "quantile", "factor", "mixture", "ensemble"],
)
def test_described_candidates_agree_with_the_rewards_one_by_one(tmp_path, head):
    model = RewardModel.from_pretrained(reward_checkpoint(tmp_path / head, head))
    scorer = Scorer(model, ModelOptions(engine="padded"))
    raw = scorer.raw(sample_texts(35, 1)).raw
    found = scorer.describe(raw, MEASURES)
    rewards = model.head.distribution(raw.double())
    line, everybody = {"raw": raw[:1].tolist()}, People(model.likelihood)
    risks = {name: pytest.approx(values[0].item()) for name, values in found.values.items()}
    columns = added_columns("text", "m", line, everybody, MEASURES)
    assert columns == {"reward_output": raw[0].tolist(), "rewards": risks}
    assert found.mean == pytest.approx(rewards.mean)
    assert found.stddev == pytest.approx(rewards.stddev)
    assert found.values == {str(each): pytest.approx(each(rewards)) for each in MEASURES}
    assert found.preferred.shape == (35, 35)
    assert found.preferred.diagonal() == pytest.approx(torch.full((35,), 0.5))
    assert found.preferred[33, 2] == pytest.approx(rewards[33].log_prob_greater(rewards[2]).exp())
    assert found.preferred + found.preferred.T == pytest.approx(torch.ones(35, 35))
    if found.shares:
        assert sum(found.shares.values()) == pytest.approx(torch.ones(35))
    assert (found.groups, bool(found.shares)) == ({}, head != "base")


def test_names_mean_what_they_mean_in_score(people):
    raw = people.raw(sample_texts(3, 2)).raw
    measures = [parse("cvar:0.1"), parse("relative_quantile:0.1")]
    groups = {"young": ["ann"], "all": ["ann", "bob", "7"]}
    found = people.describe(raw, measures, "ann", groups)
    known = People(people.model.likelihood, "ann", groups)
    rows = risk_values(raw.tolist(), measures, known)
    by_group = risk_values(raw.tolist(), measures, known, by_group=True)
    rewards = known.likelihood.rewards_of(people.model.head.distribution(raw.double()), "ann")
    for measure in measures:
        name = str(measure)
        assert found.values[name] == pytest.approx(measure(rewards), abs=1e-9)
        assert found.values[name].tolist() == pytest.approx([row[name] for row in rows])
        for group in ("young", "all", "worst_group"):
            own = [row[name][group] for row in by_group]
            assert found.groups[name][group].tolist() == pytest.approx(own)
    assert set(found.shares) == {"shared_context", "noise"}
    plain = people.describe(raw)
    assert plain.values == {}
    assert (plain.mean - found.mean).abs().max() > 0


def test_an_annotator_who_is_not_known_is_refused(people, normal):
    raw = people.raw(["a", "b"]).raw
    with pytest.raises(ConfigError, match="does not know the annotator 'zoe'"):
        people.describe(raw, annotator="zoe")
    with pytest.raises(ConfigError, match="has not learned annotators"):
        normal.rewards(raw[:, :2], "ann")
