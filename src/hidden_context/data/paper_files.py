"""The paper's published data: which files there are, and the git blob ids that verify them."""

from __future__ import annotations

from typing import Literal

REPOSITORY = "cassidylaidlaw/hidden-context"
COMMIT = "13c98bbaa75d57773c69bf005b214f75821a49e9"
BASE_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/data"

Group = Literal["data", "evaluations", "all"]


def _evaluation(subset: str, model: str) -> str:
    """Return where the results of one of the paper's Llama-2-7B models on all test pairs lie."""
    epochs = 1 if subset == "both" else 2
    options = {"base": "", "categorical": "_10_0.1", "mean_and_variance": "_0.0"}[model]
    run = f"{model}_Llama-2-7b-hf__0_3e-06_cosine_{epochs}{options}_peft_last_checkpoint"
    return f"reward_models/relabeled_hh_rlhf/{subset}/{run}/eval_results_both.jsonl"


# Paths are relative to the repository's data folder. None: no blob id is known beforehand.
DATA_FILES: dict[str, str | None] = {
    "relabeled_hh_rlhf/both/train.jsonl.gz": "8d49ad9c2ee03c23ba2672a32404f7ebeb24da4f",
    "relabeled_hh_rlhf/both/test.jsonl.gz": "33636d1fe03e1eddc6cb4c7cffcc4cd13156f94b",
    "relabeled_hh_rlhf/harmless/train.jsonl.gz": "eac96324bc524001245b7665644c3bd62d0b3fe4",
    "relabeled_hh_rlhf/harmless/test.jsonl.gz": "f3e8d2da1f33f35fafa3b3386ff820f7c702aa80",
    "relabeled_hh_rlhf/helpful/train.jsonl.gz": "a84e1037b48227d92205827e1039a21528cc7bc8",
    "relabeled_hh_rlhf/helpful/test.jsonl.gz": "dad658ef7134ccf69bef6b88c2b7861398d6abbd",
    "jailbroken_responses.jsonl": "e5a2f7712d4a2d2f73e29de8fc38bec9fa916f1c",
}

EVALUATION_FILES: dict[str, str | None] = {
    "jailbroken_evaluations_base.jsonl": "7bbf1d519513a8d8639cbead793b3b84b7d83912",
    "jailbroken_evaluations_categorical.jsonl": None,
    "jailbroken_evaluations_mean_and_variance.jsonl": "d4caaf0e7f700215b0d37b11b56a9b703b545261",
    _evaluation("both", "base"): "6ae4262a7249c187acff1a4e72102bce593bb2d2",
    _evaluation("both", "categorical"): "6713c73ea41febc37012aeb466dd4b77c07b8348",
    _evaluation("both", "mean_and_variance"): "115810c29ab2c4098497c068cfc48dc33abd6ae4",
    _evaluation("harmless", "base"): "41beb62a559514b0657f314fbb98786034054d61",
    _evaluation("harmless", "categorical"): "666658e03b12670770c7293b781607edf42feb06",
    _evaluation("harmless", "mean_and_variance"): "e076973f0cb42d9dd2f639f0d9bddfa096f19117",
    _evaluation("helpful", "base"): "2be733cb7a3212e5ccfd91adf143e1de521d59a5",
    _evaluation("helpful", "categorical"): "a5af8b766c3385484e8ff80c4860b27c6ec5d132",
    _evaluation("helpful", "mean_and_variance"): "9f70be2b129978b13b0e2d516b7a366f26320f2f",
}


def files_of(group: Group) -> dict[str, str | None]:
    """Return the files of a group with their blob ids: ``data``, ``evaluations`` or ``all``."""
    if group == "all":
        return {**DATA_FILES, **EVALUATION_FILES}
    return dict(DATA_FILES if group == "data" else EVALUATION_FILES)
