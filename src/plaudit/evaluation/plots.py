"""Curves of the acts as inline SVG: transparent, mid-tone, its text taken over by the page's own style."""

# matplotlib's stubs leave **kwargs untyped, so every call of it would count as partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from plaudit.evaluation.figures import figure, number, objects, percent, plain, shown
from plaudit.intervals import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES_COLOURS = ("#3f86cc", "#dd7f2a")
"""Readable on white and on near-black; blue and orange stay apart for the colour-blind."""
_GREY = "#8a8f98"
_MOST_POINTS = 400
_SMOOTH_FROM = 30
"""Points from which a curve gets a rolling mean, with the raw values faint behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One plot: which metrics it shows under which labels."""

    title: str
    note: str
    series: tuple[tuple[str, str], ...]
    """(name in metrics.jsonl, label)."""
    share: bool = False
    """Values are shares in 0..1."""


PANELS: Mapping[str, tuple[Panel, ...]] = {
    "sft": (
        Panel(
            title="Loss",
            note="nats per response token",
            series=(("loss", "training"), ("held_out_loss", "held out")),
        ),
    ),
    "reward": (
        Panel(title="Loss", note="nats per pair", series=(("loss", "training"), ("held_out_loss", "held out"))),
        Panel(
            title="Accuracy",
            note="share of pairs ordered as people did",
            series=(("accuracy", "training"), ("held_out_accuracy", "held out")),
            share=True,
        ),
    ),
    "dpo": (
        Panel(title="DPO loss", note="nats per pair", series=(("loss", "training"), ("held_out_loss", "held out"))),
        Panel(
            title="DPO accuracy",
            note="share of pairs that the policy orders as people did",
            series=(("accuracy", "training"), ("held_out_accuracy", "held out")),
            share=True,
        ),
        Panel(
            title="Log-ratio to the reference",
            note="nats per response",
            series=(("best_logratio", "the preferred"), ("worst_logratio", "the other")),
        ),
    ),
    "ppo": (
        Panel(title="Reward", note="per response", series=(("score", "judge’s score"), ("reward", "less the KL cost"))),
        Panel(title="KL to the reference", note="nats per response", series=(("kl", "KL"),)),
        Panel(title="Entropy", note="nats per token", series=(("entropy", "entropy"),)),
        Panel(title="Length", note="tokens per response", series=(("response_length", "length"),)),
        Panel(
            title="Finished", note="share that ended by itself", series=(("finished_share", "finished"),), share=True
        ),
        Panel(
            title="Clip fraction", note="share of tokens clipped", series=(("clip_fraction", "clipped"),), share=True
        ),
        Panel(
            title="Value’s explained variance",
            note="1 is perfect, below 0 worse than a constant",
            series=(("explained_variance", "explained variance"),),
        ),
        Panel(
            title="Change of policy in a step", note="approximate KL, nats per token", series=(("approx_kl", "change"),)
        ),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A drawn panel."""

    title: str
    note: str
    legend: tuple[tuple[str, str, str], ...]
    """(label, colour, last value)."""
    svg: Markup


def draw(
    panel: Panel, rows: Sequence[Mapping[str, object]], *, prefix: str, level: tuple[str, float] | None = None
) -> Plot | None:
    """The panel as SVG whose ids start with `prefix`; None where no metric comes twice: a point is no curve.

    `level` is a labelled horizontal line, a baseline.
    """
    curves = [(label, *_points(rows, metric)) for metric, label in panel.series]
    present = [
        (label, colour, xs, ys) for (label, xs, ys), colour in zip(curves, SERIES_COLOURS, strict=False) if len(xs)
    ]
    if not any(len(xs) > 1 for _, _, xs, _ in present):
        return None
    write = _percent if panel.share else _short
    words = [
        f"{label} from {write(ys[0])} at step {xs[0]:g} to {write(ys[-1])} at step {xs[-1]:g}"
        for label, _, xs, ys in present
    ]
    if level is not None:
        words.append(f"{level[0]} at {write(level[1])}")
    svg = _render(lambda axes: _lines(axes, panel, [(colour, xs, ys) for _, colour, xs, ys in present], level))
    return Plot(
        title=panel.title,
        note=panel.note,
        legend=tuple((label, colour, write(ys[-1])) for label, colour, _, ys in present),
        svg=_embed(svg, prefix, f"{panel.title}, {panel.note}: {'; '.join(words)}."),
    )


def _points(rows: Sequence[Mapping[str, object]], metric: str) -> tuple[Floats, Floats]:
    found = [(number(row, "step"), number(row, metric)) for row in rows]
    kept = [(x, y) for x, y in found if x is not None and y is not None]
    xs, ys = (np.array([pair[axis] for pair in kept], dtype=np.float64) for axis in (0, 1))
    if len(xs) <= _MOST_POINTS:
        return xs, ys
    edges = np.linspace(0, len(xs), _MOST_POINTS + 1).astype(int)[:-1]
    counts = np.diff(np.append(edges, len(xs)))
    return np.add.reduceat(xs, edges) / counts, np.add.reduceat(ys, edges) / counts


def draw_learning_curve(found: Mapping[str, object], *, prefix: str) -> Plot | None:
    """A judge's accuracy against rankings so far and to come, under its ceiling; None where there is no curve."""
    measured = _estimates(objects(found, "points"), "rankings", "accuracy")
    to_come = _estimates(objects(found, "to_come"), "rankings", "accuracy")
    if len(measured) < 2 or not len(to_come):
        return None
    ceiling = number(found, "ceiling")
    blue, orange = SERIES_COLOURS

    def paint(axes: Axes) -> None:
        x, y, low, high = measured.T
        axes.errorbar(x, y, yerr=[y - low, high - y], color=blue, linewidth=1.6, marker="o", markersize=3.5, capsize=2)
        x, y, low, high = to_come.T
        axes.fill_between(x, low, high, color=orange, alpha=0.2, linewidth=0)
        axes.plot(x, y, color=orange, linewidth=1.6, linestyle=(0, (4, 3)))
        if ceiling is not None:
            _level(axes, "annotators’ ceiling", ceiling)
        ticks = [*measured[:, 0], *to_come[1:, 0]]
        axes.set_xscale("log", base=2)
        _dress(axes, share=True, label="rankings learned from")
        axes.set_xticks(ticks, [f"{round(one):d}" for one in ticks])
        axes.minorticks_off()

    last, furthest = measured[-1], to_come[-1]
    words = f"{_percent(last[1])} with {last[0]:g} rankings, {_percent(furthest[1])} expected with {furthest[0]:g}"
    return Plot(
        title="What more labels would bring",
        note="share of held-out pairs ordered as people did",
        legend=(("measured", blue, _percent(last[1])), ("to be expected", orange, _percent(furthest[1]))),
        svg=_embed(_render(paint), prefix, f"Accuracy against rankings: {words}."),
    )


def draw_overoptimization(found: Mapping[str, object], *, prefix: str) -> list[Plot]:
    """By way (best of n, PPO): what the judge says and what it stands for, against the root of the KL. The peak of the
    fitted curve is marked where it lies within what was tried."""
    names = {"best_of_n": "Best of n", "rl": "PPO"}
    measured_by = shown(found.get("measured_by") or "what it stands for")
    plots: list[Plot] = []
    for way, title in names.items():
        points = objects(found, "ways", way, "points")
        curves = [_estimates(points, "kl", key) for key in ("judge", "measured")]
        if any(len(curve) < 2 for curve in curves):
            continue
        peak = number(found, "ways", way, "fits", "measured", "peak", "kl")
        if peak is not None and peak > curves[0][:, 0].max():
            peak = None

        def paint(axes: Axes, curves: Sequence[Floats] = curves, peak: float | None = peak) -> None:
            for curve, colour in zip(curves, SERIES_COLOURS, strict=True):
                kl, y, low, high = curve.T
                x = np.sqrt(np.maximum(0.0, kl))
                axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
                axes.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=3.5)
            if peak is not None:
                axes.axvline(peak**0.5, color=_GREY, linewidth=1.0, linestyle=(0, (4, 3)))
            _dress(axes, share=False, label="√KL")

        last = [_short(curve[-1, 1]) for curve in curves]
        told = tuple(zip(("the judge", measured_by), SERIES_COLOURS, last, strict=True))
        words = ", ".join(f"{name} {value}" for name, _, value in told)
        plots.append(
            Plot(
                title=f"{title}: how far the judge can be followed",
                note="gain over the SFT model" + ("" if peak is None else "; dashed: the fitted peak"),
                legend=told,
                svg=_embed(_render(paint), f"{prefix}-{way}", f"{title}, gains at the furthest: {words}."),
            )
        )
    return plots


def _estimates(rows: Sequence[Mapping[str, object]], x: str, y: str) -> Floats:
    """(x, value, low, high) of each row that has them, ascending [rows, 4]."""
    found = [(number(row, x), figure(row, y)) for row in rows]
    known = [
        (at, one.value, one.value if one.low is None else one.low, one.value if one.high is None else one.high)
        for at, one in found
        if at is not None and one is not None
    ]
    return np.array(sorted(known), dtype=np.float64).reshape(-1, 4)


def _render(paint: Callable[[Axes], None]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "plaudit", "font.size": 9.0}):
        canvas = Canvas(figsize=(4.8, 2.2), layout="constrained")
        paint(canvas.subplots())
        out = io.StringIO()
        canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue()


def _lines(
    axes: Axes, panel: Panel, curves: Sequence[tuple[str, Floats, Floats]], level: tuple[str, float] | None
) -> None:
    for colour, xs, ys in curves:
        _curve(axes, colour, xs, ys)
    if level is not None:
        _level(axes, *level)
    _dress(axes, share=panel.share, label="step")


def _level(axes: Axes, label: str, value: float) -> None:
    axes.axhline(value, color=_GREY, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.annotate(
        label,
        (1, value),
        (0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=_GREY,
    )


def _curve(axes: Axes, colour: str, xs: Floats, ys: Floats) -> None:
    if len(xs) < _SMOOTH_FROM:
        axes.plot(xs, ys, color=colour, linewidth=1.6, marker="o" if len(xs) <= 12 else "", markersize=3.5)
        return
    axes.plot(xs, ys, color=colour, linewidth=0.8, alpha=0.35)
    width = max(3, len(xs) // 15) | 1
    ones = np.ones(width)
    # Divided by what lies inside the window, so that the ends are not drawn towards 0.
    smooth = np.convolve(ys, ones, "same") / np.convolve(np.ones_like(ys), ones, "same")
    axes.plot(xs, smooth, color=colour, linewidth=1.8)


def _dress(axes: Axes, *, share: bool, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)
    axes.tick_params(colors=_GREY, length=0, pad=4)
    axes.tick_params(axis="x", length=3)
    axes.grid(axis="y", color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label, color=_GREY, loc="right", labelpad=1)
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=label == "step"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if share:
        axes.yaxis.set_major_formatter(FuncFormatter(_share_tick))
    axes.margins(x=0.02, y=0.12)


def _embed(svg: str, prefix: str, alt: str) -> Markup:
    """Matplotlib's file as an element of a page: ids that no other plot has, no style that leaks, an alt text."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    body = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", body, count=1)
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))


def _share_tick(share: float, _place: int | None) -> str:
    return f"{round(100 * share, 2):g} %"


def _percent(value: float) -> str:
    return percent(value, 1)


def _short(value: float) -> str:
    size = abs(value)
    return plain(value, 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 4 if size else 0)
