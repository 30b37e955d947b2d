"""What the report says of a judge and of RLHF's rivals, from a summary made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plaudit.evaluation.judge_page import judge_page
from plaudit.evaluation.plots import draw_overoptimization
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


CURVE: dict[str, Any] = {
    "points": [{"rankings": 100, "accuracy": estimate(0.6)}, {"rankings": 200, "accuracy": estimate(0.7)}],
    "to_come": [{"rankings": 200, "accuracy": estimate(0.69)}, {"rankings": 800, "accuracy": estimate(0.76)}],
    "ceiling": 0.9,
    "next_point": {"rankings": 31.6, "low": 20.2, "high": None, "judgements": 79.0, "hours": 1.25},
}


def test_what_more_labels_would_bring() -> None:
    page = judge_page(REWARD | {"learning_curve": CURVE}, prefix="x")
    assert page is not None
    (plot,) = page.learning
    assert [(label, last) for label, _, last in plot.legend] == [
        ("measured", "70.0\u00a0%"), ("to be expected", "76.0\u00a0%"),
    ]  # fmt: skip
    assert "70.0\u00a0% with 200 rankings, 76.0\u00a0% expected with 800" in plot.svg
    assert "annotators’ ceiling" in plot.svg
    assert page.price == (
        "One point more is to be expected of 32 rankings more that the judge learns from (20 to no number). With those "
        "that are held out or another judge’s, people make 79: 1.2 hours of their work."
    )
    flat = REWARD | {"learning_curve": CURVE | {"next_point": {"rankings": None, "low": 5.0, "high": None}}}
    page = judge_page(flat, prefix="x")
    assert page is not None
    assert page.price.startswith("No number of such labels")
    page = judge_page(REWARD, prefix="x")
    assert page is not None
    assert (page.learning, page.price) == ([], "")


def followed(judge: float, measured: float, kl: float) -> dict[str, Any]:
    return {"kl": kl, "judge": estimate(judge), "measured": estimate(measured)}


def test_how_far_it_can_be_followed() -> None:
    points = [followed(0.5, 0.3, 1.0), followed(1.5, 0.2, 9.0)]
    fits = {"measured": {"a": 0.3, "b": 0.1, "peak": {"kl": 4.0, "gain": 0.4}}}
    found = {"measured_by": "<b>truth</b>", "ways": {"rl": {"points": points, "fits": fits}, "best_of_n": {}}}
    (plot,) = draw_overoptimization(found, prefix="x")
    assert plot.title.startswith("PPO")
    assert "dashed" in plot.note
    assert [last for _, _, last in plot.legend] == ["1.50", "0.20"]
    assert "<b>" not in plot.svg
    far = {"ways": {"rl": {"points": points, "fits": {"measured": {"peak": {"kl": 25.0}}}}}}
    assert "dashed" not in draw_overoptimization(far, prefix="x")[0].note
    assert draw_overoptimization({"ways": {"rl": {"points": points[:1]}}}, prefix="x") == []
    assert draw_overoptimization({}, prefix="x") == []


def test_it_stands_in_the_report_and_names_are_escaped(tmp_path: Path) -> None:
    evaluation = {
        "win_rate": estimate(0.6),
        "kl": {"rlhf": estimate(3.5)},
        "truth": {name: {"total": estimate(0.5)} for name in ("sft", "rlhf", "dpo")},
        "truth_gain": {"total": estimate(0.2)},
        "rivals": {"dpo": {"win_rate": estimate(0.63), "truth": estimate(-0.128)}},
    }
    only = {"reward": REWARD | {"learning_curve": CURVE}, "dpo": {"loss": 0.5}, "evaluation": evaluation}
    (tmp_path / "summary.json").write_text(json.dumps({"name": "x", "seed": 0, "rounds": [only]}))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "What more labels would bring" in html
    assert "One point more is to be expected of 32 rankings" in html
    assert "&lt;i&gt;cem&lt;/i&gt;" in html
    assert "<i>cem" not in html
    assert "<b>ann" not in html
    assert "How far it can be trusted" in html
    assert "Other ways from the same rankings" in html
    assert "\u22120.128" in html
    assert "DPO raised the hidden total" in html
    assert "3.50 nats" in html
    assert "said 75\u00a0%, right 100\u00a0%, 100 pairs" in html
