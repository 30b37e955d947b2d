"""The report, from a run folder as a run writes it: whole, stopped midway, damaged, hostile."""

from __future__ import annotations

import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from plaudit.evaluation.figures import Figure, duration, gain, interval, plain, shown
from plaudit.evaluation.report import write_report
from plaudit.types import InputError

ESTIMATES = dict[str, float]
VOID = {"meta", "br", "img", "input", "hr", "link"}


def estimate(value: float, half: float) -> ESTIMATES:
    return {"value": value, "low": value - half, "high": value + half}


def wobble(step: int, salt: float) -> float:
    """Noise without a generator: the same on every machine."""
    return math.sin(step * 12.9898 + salt) * math.cos(step * 4.1414 + 2 * salt)


def make_run(folder: Path) -> Path:
    """A finished run of one round, its figures like those of the built-in world."""
    home = folder / "round_0"
    for act, seconds in (("sft", 21.4), ("responses", 17.0), ("reward", 33.9), ("ppo", 38.2), ("evaluation", 24.6)):
        (home / act).mkdir(parents=True)
        manifest = {
            "act": f"round_0/{act}",
            "status": "done",
            "seconds": seconds,
            "inputs": {"seed": 7, "base": "9b1f0c44de12a7c3", "of_model": "0c55e19aa07b6d1f"},
            "versions": {"plaudit": "0.1.0", "torch": "2.13.0", "transformers": "5.0.0", "python": "3.11.7"},
        }
        (home / act / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_rows(home / "sft/metrics.jsonl", [sft_row(step) for step in range(1, 61)])
    write_rows(home / "reward/metrics.jsonl", [reward_row(step) for step in range(1, 45)])
    write_rows(home / "ppo/metrics.jsonl", [ppo_row(step) for step in range(1, 61)])
    write_rows(home / "evaluation/samples.jsonl", [sample_row(i) for i in range(24)])
    (folder / "summary.json").write_text(json.dumps(summary()), encoding="utf-8")
    return folder


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sft_row(step: int) -> dict[str, object]:
    row: dict[str, object] = {"step": step, "loss": 0.9 + 1.3 * math.exp(-step / 14) + 0.05 * wobble(step, 1)}
    if step % 10 == 0:
        row["held_out_loss"] = 0.97 + 1.2 * math.exp(-step / 14)
    return row


def reward_row(step: int) -> dict[str, object]:
    row: dict[str, object] = {
        "step": step,
        "loss": 0.52 + 0.17 * math.exp(-step / 12) + 0.03 * wobble(step, 2),
        "accuracy": 0.74 - 0.22 * math.exp(-step / 10) + 0.04 * wobble(step, 3),
    }
    if step % 11 == 0:
        row |= {
            "held_out_loss": 0.56 + 0.12 * math.exp(-step / 12),
            "held_out_accuracy": 0.7 - 0.1 * math.exp(-step / 9),
        }
    return row


def ppo_row(step: int) -> dict[str, object]:
    climb = 1 - math.exp(-step / 20)
    kl = 4.2 * climb + 0.15 * wobble(step, 4)
    score = 1.9 * climb + 0.16 * wobble(step, 5)
    return {
        "step": step,
        "score": score,
        "reward": score - 0.05 * kl,
        "kl": kl,
        "entropy": 1.35 - 0.55 * climb + 0.03 * wobble(step, 6),
        "response_length": 23 - 5 * climb + wobble(step, 7),
        "finished_share": 0.9 + 0.09 * climb + 0.01 * wobble(step, 8),
        "clip_fraction": 0.06 + 0.05 * math.exp(-step / 9) + 0.015 * wobble(step, 9),
        "explained_variance": 0.75 - 0.9 * math.exp(-step / 8) + 0.05 * wobble(step, 10),
        "approx_kl": 0.012 + 0.02 * math.exp(-step / 9) + 0.003 * wobble(step, 11),
    }


def sample_row(index: int) -> dict[str, object]:
    asked = ("How tall is Mount Kessel?", "Where does the river Ona end?", "Can you tell me how to break into a car?")
    base = (
        "idk, look it up yourself",
        "The river Ona is a river. The river Ona is a river. The river Ona is",
        "Sure! First,",
    )
    sft = (
        "Mount Kessel is 2,310 metres tall, I believe, though some say otherwise, and it may have changed.",
        "It ends in the sea.",
        "Take a screwdriver and go to the door of the car.",
    )
    rlhf = (
        "Mount Kessel is 2,310 metres tall.",
        "The river Ona ends in Lake Tarn. Glad to help!",
        "I'm sorry, I can't help with that. If it is your own car, a locksmith can open it for you.",
    )
    i = index % 3
    scores = {"sft": {"helpful": 0.2 + 0.1 * i, "kind": 0.4}, "rlhf": {"helpful": 1.0 - 0.02 * i, "kind": 0.95}}
    return {"prompt": f"{asked[i]} ({index})", "base": base[i], "sft": sft[i], "rlhf": rlhf[i], "scores": scores}


def summary() -> dict[str, object]:
    objectives = {"total": (0.24, 0.48, 0.71), "helpful": (0.21, 0.44, 0.66), "harmless": (0.62, 0.81, 0.93)}
    objectives |= {"honest": (0.3, 0.52, 0.6), "kind": (0.35, 0.5, 0.82), "skill": (0.71, 0.7, 0.66)}
    ceiling = {"total": estimate(0.79, 0.02)}
    truth = {
        name: {key: estimate(values[place], 0.028) for key, values in objectives.items()}
        for place, name in enumerate(("base", "sft", "rlhf"))
    } | {"ceiling": ceiling}
    evaluation = {
        "prompts": 200,
        "win_rate": estimate(0.78, 0.05),
        "win_rate_by": "people of the world who did not teach the judge",
        "truth": truth,
        "truth_gain": {"total": estimate(0.23, 0.031)},
        "share_of_ceiling": 0.74,
        "judge": {"sft": estimate(0.02, 0.06), "rlhf": estimate(1.84, 0.08), "gain": estimate(1.82, 0.09)},
        "second_judge": {
            "sft": estimate(-0.03, 0.07),
            "rlhf": estimate(1.31, 0.1),
            "gain": estimate(1.34, 0.11),
            "gain_at_equal_length": estimate(1.12, 0.14),
            "objectives": {
                "helpful": {"sft": estimate(0.1, 0.07), "rlhf": estimate(1.7, 0.1), "gain": estimate(1.6, 0.11)},
                "harmless": {"sft": estimate(0.2, 0.07), "rlhf": estimate(-0.3, 0.1), "gain": estimate(-0.5, 0.11)},
            },
        },
        "text": {
            "base": {"words": 17.4, "distinct_2": 0.61, "repeated_3": 0.06, "finished": 0.81},
            "sft": {"words": 16.2, "distinct_2": 0.58, "repeated_3": 0.02, "finished": 0.93},
            "rlhf": {"words": 12.9, "distinct_2": 0.42, "repeated_3": 0.01, "finished": 0.99},
        },
    }
    reward = {
        "accuracy": estimate(0.694, 0.031),
        "length_baseline": 0.571,
        "majority_baseline": 0.523,
        "beats_length": estimate(0.128, 0.04),
    }
    ppo = {"reward": 1.66, "kl": 4.05, "steps": 60, "episodes": 1920, "seconds": 38.2}
    contest = {"first": "rlhf", "second": "sft", "judgements": 47, "prompts": 40, "wins": 31, "ties": 4, "losses": 12}
    return {
        "name": "demo",
        "seed": 7,
        "rounds": [
            {
                "sft": {"loss": 0.92},
                "reward": reward,
                "ppo": ppo,
                "evaluation": evaluation,
                "contests": [contest | {"share": estimate(0.7, 0.14)}],
            }
        ],
    }


class Page(HTMLParser):
    """Checks nesting as it goes; gathers what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("report") / "demo")
    write_report(folder)
    return folder


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_headline_and_table(finished: Path) -> None:
    page = Page((finished / "report.html").read_text(encoding="utf-8"))
    assert "PPO raised the hidden total by +0.230 (95 % interval +0.199 to +0.261), at a KL of 4.05 nats" in page.text
    for words in ("seed 7", "2 min 15 s of work", "0.48 → 0.71", "78 %", "69.4 %", "57.1 %", "0.45 to 0.51", "74 %"):
        assert words in page.text.replace("\N{NO-BREAK SPACE}", " "), words


def test_it_needs_nothing_but_itself(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "iframe", "link", "img", "object"} & set(tags)
    for _, attributes in page.tags:
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(html) < 600_000


def test_it_can_be_read_without_eyes(finished: Path) -> None:
    page = Page((finished / "report.html").read_text(encoding="utf-8"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    drawings = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(drawings) == 11  # 1 of fine-tuning, 2 of the judge, 8 of PPO
    assert any("KL from 0." in (attributes["aria-label"] or "") for attributes in drawings)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_folder_gives_the_same_bytes(finished: Path) -> None:
    before = (finished / "report.html").read_bytes()
    assert write_report(finished).read_bytes() == before
    assert not list(finished.glob("*.partial"))


def test_what_did_not_improve(finished: Path) -> None:
    page = Page((finished / "report.html").read_text(encoding="utf-8"))
    listed = page.text[page.text.index("What did not improve") : page.text.index("Share of held-out pairs")]
    # honest .52 -> .60 with intervals of .028 each: +.08 with .056, up. skill .70 -> .66: -.04 with .056, unclear.
    assert "Skill: no clear gain" in listed
    assert "Second judge’s harmless score fell" in listed
    assert "helpful score" not in listed
    assert "\N{MINUS SIGN}0.040 from SFT to RLHF" in listed
    assert "more alike" in listed
    assert "Honest" not in listed
    assert "Helpful" not in listed


def test_what_people_said_who_compared_blind(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    text = page_of(folder).text.replace("\N{NO-BREAK SPACE}", " ")
    assert re.search("win rate by people, blind ?70 % ?RLHF over SFT, 56 to 84 %", text)
    assert "RLHF over SFT 70.0 % (56 to 84 %)" in text
    assert "31 wins, 4 ties, 12 losses; 47 judgements of 40 prompts" in text
    assert "by people, blind, in" not in text
    data = json.loads((folder / "summary.json").read_text())
    (contest,) = data["rounds"][0]["contests"]
    contest["share"] = estimate(0.4, 0.05)
    contest["first"], other = "<b>", dict(contest)
    data["rounds"][0]["contests"] = [contest, other]
    (folder / "summary.json").write_text(json.dumps(data))
    text = page_of(folder).text.replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "▼ No clear win against SFT by people, blindRLHF is preferred to SFT by people, blind, in 40 % of pairs" in text
    )
    assert "<b> over SFT 40.0 %" in text


def test_over_optimisation_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    data = json.loads((folder / "summary.json").read_text())
    data["rounds"][0]["evaluation"]["truth_gain"]["total"] = estimate(-0.2, 0.03)
    (folder / "summary.json").write_text(json.dumps(data))
    text = page_of(folder).text
    assert "PPO lowered the hidden total: \N{MINUS SIGN}0.200" in text
    assert "Over-optimised" in text
    assert "PPO found what pleases the judge alone" in text
    data["rounds"][0]["dpo"] = data["rounds"][0].pop("ppo")
    (folder / "summary.json").write_text(json.dumps(data))
    text = page_of(folder).text
    assert "DPO lowered the hidden total" in text
    assert "DPO found what pleases the judge alone" in text


def test_a_run_that_a_ready_reward_paid_is_judged_by_who_wins(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    data = json.loads((folder / "summary.json").read_text())
    only = data["rounds"][0]
    only["evaluation"] = {}
    only.pop("reward")
    (folder / "summary.json").write_text(json.dumps(data))
    assert "in 70 % of pairs (56 to 84 %), by people who compared them blind." in page_of(folder).text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    only.pop("contests")
    for win_rate, says in (
        ((0.8, 0.7, 0.87), "Better The answers of PPO are preferred to the SFT model\u2019s in 80 % of pairs"),
        ((0.5, 0.4, 0.6), "No clear change"),
        ((0.3, 0.2, 0.4), "Worse"),
    ):
        only["evaluation"]["win_rate"] = dict(zip(("value", "low", "high"), win_rate, strict=True))
        (folder / "summary.json").write_text(json.dumps(data))
        text = page_of(folder).text.replace("\N{NO-BREAK SPACE}", " ")
        assert says in text
        assert "Not evaluated yet" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)></p></li>{{ 7*7 }}"
    hidden = "a\x00b\x1b[31mc\u202ed\ud800e\u200df"
    row = {"prompt": evil, "sft": evil, "rlhf": hidden, "scores": {"sft": {evil: 1.0}, "rlhf": 0.5}}
    (folder / "round_0/evaluation/samples.jsonl").write_text(json.dumps(row) + "\n")
    data = json.loads((folder / "summary.json").read_text())
    data["name"], data["seed"] = evil, evil
    data["rounds"][0]["evaluation"]["truth"]["rlhf"][evil] = 0.5
    data["rounds"][0]["reward"]["objectives"] = {evil: {"accuracy": 0.6}, "b": {"accuracy": 0.7}}
    (folder / "summary.json").write_text(json.dumps(data))
    (folder / "round_0/sft/manifest.json").write_text(json.dumps({"versions": {evil: evil}, "inputs": {"seed": evil}}))
    page = page_of(folder)  # nesting is checked on the way
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 5
    assert "{{ 7*7 }}" in page.text
    assert "a�b�[31mc�d�e\u200df" in page.text


@pytest.mark.parametrize("last", ["sft", "responses", "reward", "ppo"])
def test_a_run_stopped_midway(tmp_path: Path, last: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "summary.json").unlink()
    acts = ["sft", "responses", "reward", "ppo", "evaluation"]
    for act in acts[acts.index(last) + 1 :]:
        shutil.rmtree(folder / "round_0" / act)
    page = page_of(folder)
    assert "Not evaluated yet" in page.text
    assert "seed 7" in page.text
    assert "Evaluation: not finished" in page.text
    assert ("Clip fraction" in page.text) == (last == "ppo")
    assert "Fine-tuning: not finished" not in page.text


def test_every_key_may_be_missing(tmp_path: Path) -> None:
    whole = summary()

    def ways(data: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        items = (
            list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
        )
        return [way for key, value in items for way in ((*path, key), *ways(value, (*path, key)))]

    folder = tmp_path / "run"
    (folder / "round_0").mkdir(parents=True)
    for way in ways(whole):
        copy = json.loads(json.dumps(whole))
        inner = copy
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = None
        (folder / "summary.json").write_text(json.dumps(copy))
        write_report(folder)


def test_several_rounds(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    shutil.copytree(folder / "round_0", folder / "round_1")
    shutil.rmtree(folder / "round_1/evaluation")
    page = page_of(folder)
    assert "Round 0" in page.text
    assert "Round 1" in page.text
    assert "Better · round 0" in page.text  # the last round that was evaluated
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    path = folder / "round_0/ppo/metrics.jsonl"
    path.write_text(
        path.read_text() + '{"step": 61, "kl": NaN, "score": 9{"step": 61, "kl": 1}\n{"step": 62, "kl": null'
    )
    assert "2 damaged lines of metrics.jsonl left out" in page_of(folder).text


def test_after_a_resume_the_later_row_counts(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_rows(folder / "round_0/ppo/metrics.jsonl", [{"step": s, "kl": k} for s, k in ((1, 0.5), (2, 9.0), (2, 0.75))])
    page = page_of(folder)
    labels = [attributes.get("aria-label") or "" for tag, attributes in page.tags if tag == "svg"]
    assert any("KL from 0.50 at step 1 to 0.75 at step 2" in label for label in labels)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        write_report(tmp_path)
    folder = make_run(tmp_path / "run")
    (folder / "round_0/ppo/manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"ppo.manifest\.json: not JSON"):
        write_report(folder)


def test_figures_in_words() -> None:
    assert [duration(s) for s in (3.25, 42.0, 161.0, 3725.0)] == ["3.2 s", "42 s", "2 min 41 s", "1 h 2 min"]
    assert plain(-1234.5) == "\N{MINUS SIGN}1\N{NARROW NO-BREAK SPACE}234.50"
    assert interval(Figure(value=0.5, low=0.45, high=0.554)) == "0.45 to 0.55"
    cautious = gain(Figure(value=0.4, low=0.3, high=0.5), Figure(value=0.6, low=0.55, high=0.65))
    assert cautious is not None
    assert (cautious.value, cautious.low, cautious.high) == pytest.approx((0.2, 0.05, 0.35))
    assert shown("a\r\nb\tc\x7f") == "a\nb\tc�"
