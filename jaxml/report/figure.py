"""Matplotlib figures as SVG that follow the page's light or dark colours and keep text as text."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxml.report.recipe import Figure

INK = "#010203"  # stands for the page's text colour and is replaced in the SVG
COLOURS = ("#3b7dd8", "#e0702c", "#2f9e77", "#a05bd0", "#c8434f", "#8a8f98")


def draw(
    id: str,
    title: str,
    caption: str,
    plot: Callable[[Any], None],
    size: tuple[float, float] = (6.0, 3.6),
) -> Figure:
    """A figure with one pair of axes.

    Args:
      id: unique on the page.
      title: shown above it, and read aloud.
      caption: shown below it.
      plot: draws on the `matplotlib.axes.Axes` it is given.
      size: width and height in inches.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": id,
        "font.family": "sans-serif",
        "font.size": 11,
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "lines.linewidth": 2,
        **{name: INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor")},
        **{name: INK for name in ("xtick.color", "ytick.color", "grid.color")},
    }
    with mpl.rc_context(style):
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasSVG(canvas)
        plot(canvas.subplots())
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Figure(id, title, caption, _adopt(buffer.getvalue(), id, title))


def lines(
    id: str,
    title: str,
    caption: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    log: str = "",
) -> Figure:
    """A line with markers for every (xs, ys) by label.

    Args:
      id: unique on the page.
      title: above.
      caption: below.
      series: points by label.
      x: label of the horizontal axis.
      y: label of the vertical axis.
      log: axes with a logarithmic scale: "", "x", "y" or "xy".
    """

    def plot(axes: Any) -> None:
        for label, (xs, ys) in series.items():
            axes.plot(xs, ys, marker="o" if len(xs) < 30 else None, label=label)
        axes.set(xlabel=x, ylabel=y)
        if "x" in log:
            axes.set_xscale("log", base=2)
        if "y" in log:
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend()

    return draw(id, title, caption, plot)


def _adopt(svg: str, id: str, title: str) -> str:
    """The SVG element alone, with the page's colours, its own ids and a spoken title."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{id}-', svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{id}-", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace('role="img">', f'role="img" aria-label="{title}">', 1).strip()
