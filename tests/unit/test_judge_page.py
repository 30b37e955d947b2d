"""What the report says of a judge and of RLHF's rivals, from a summary made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plaudit.evaluation.judge_page import judge_page
from plaudit.evaluation.report import write_report


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


REWARD: dict[str, Any] = {
    "accuracy": estimate(0.7),
    "calibration": {
        "ece": 0.041,
        "ece_of_a_perfect_judge": 0.03,
        "nll": estimate(0.6),
        "brier": estimate(0.2),
        "temperature": 1.5,
        "reliability": [{"chance": 0.5, "right": 0.25, "pairs": 25}, {"chance": 0.75, "right": 1.0, "pairs": 100}],
        "scaled": {"ece": 0.012, "ece_of_a_perfect_judge": 0.03, "nll": estimate(0.55), "brier": estimate(0.19)},
    },
    "foresight": {"close": estimate(0.69), "strange": estimate(0.43)},
    "sensitivity": {"overall": {"filler": {"answers": 9, "effect": estimate(-0.5)}}},
    "length_correlation": {"all": 0.25, "within_prompt": None},
    "slices": {"annotator": {"<b>ann</b>": {"accuracy": estimate(0.8), "pairs": 12}}},
    "annotators": {
        "ben": {"mistakes": 0.06, "first_place": 0.1, "judgements": 40},
        "<i>cem</i>": {"mistakes": 0.44, "first_place": -0.2, "judgements": 30},
    },
}


def test_the_page_by_hand() -> None:
    page = judge_page(REWARD, prefix="x")
    assert page is not None
    assert page.calibration[0] == ("Calibration error", "4.1\u00a0%", "1.2\u00a0%")
    assert page.calibration[2][1:] == ("0.600", "0.550")
    assert page.temperature == "1.50"
    # The square has 200 a side: chance 50 to 100 % to the right, right 100 % at the top.
    assert [(p.x, p.y, p.radius) for p in page.diagram] == [(0.0, 150.0, 5.0), (100.0, 0.0, 8.0)]
    assert [row[1] for row in page.doubts] == ["0.69", "0.43"]
    assert page.changes[0][2] == "\u22120.50"
    assert page.length == [("over all answers", "+0.25")]
    assert [row[0] for row in page.annotators] == ["<i>cem</i>", "ben"]  # who errs most comes first
    assert page.annotators[0][2] == "44\u00a0%"
    assert judge_page({"accuracy": estimate(0.7)}, prefix="x") is None


def test_it_stands_in_the_report_and_names_are_escaped(tmp_path: Path) -> None:
    evaluation = {
        "win_rate": estimate(0.6),
        "kl": {"rlhf": estimate(3.5)},
        "truth": {name: {"total": estimate(0.5)} for name in ("sft", "rlhf", "dpo")},
        "truth_gain": {"total": estimate(0.2)},
        "rivals": {"dpo": {"win_rate": estimate(0.63), "truth": estimate(-0.128)}},
    }
    only = {"reward": REWARD, "dpo": {"loss": 0.5}, "evaluation": evaluation}
    (tmp_path / "summary.json").write_text(json.dumps({"name": "x", "seed": 0, "rounds": [only]}))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "&lt;i&gt;cem&lt;/i&gt;" in html
    assert "<i>cem" not in html
    assert "<b>ann" not in html
    assert "How far it can be trusted" in html
    assert "Other ways from the same rankings" in html
    assert "\u22120.128" in html
    assert "DPO raised the hidden total" in html
    assert "3.50 nats" in html
    assert "said 75\u00a0%, right 100\u00a0%, 100 pairs" in html
