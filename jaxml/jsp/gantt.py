"""A schedule as a picture: a bar per operation, a row per machine, plain SVG."""

import html

import numpy as np

from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.schedule import makespan_of

_ROW, _LEFT, _TOP, _WIDTH = 22, 46, 30, 860


def _colour(job: int, num_jobs: int) -> str:
    """Hues apart for neighbouring numbers; lightness alternates."""
    hue = (job * 360 * 0.618034) % 360
    return f"hsl({hue:.0f},{55 if job % 2 else 65}%,{48 if (job // 2) % 2 else 60}%)"


def _ticks(end: int) -> list[int]:
    """Round dates, five to ten of them."""
    rough = max(end, 1) / 7
    power = 10 ** int(np.floor(np.log10(rough))) if rough >= 1 else 1
    step = next(int(power * f) for f in (1, 2, 5, 10) if power * f >= rough)
    return list(range(0, end + 1, step))


def svg(instance: JSPInstance, starts: np.ndarray, title: str = "", embedded: bool = False) -> str:
    """The Gantt chart.

    Args:
      instance: the shop.
      starts: its schedule, [n, k].
      title: above it.
      embedded: for a page whose text colour and background it takes; else dark on white.

    Returns:
      SVG text. Every bar tells job, operation and times when pointed at.
    """
    end = makespan_of(instance, starts)
    scale = (_WIDTH - _LEFT - 14) / max(end, 1)
    height = _TOP + _ROW * instance.num_machines + 26
    ink = "currentColor" if embedded else "#222"
    spoken = html.escape(title or f"Schedule of length {end}")
    out = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{spoken}" '
        f'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="10">'
    ]
    if not embedded:
        out.append(f'<rect width="{_WIDTH}" height="{height}" fill="white"/>')
    out.append(f'<text x="{_LEFT}" y="17" font-size="13" fill="{ink}">{spoken}</text>')
    bottom = _TOP + _ROW * instance.num_machines
    for tick in _ticks(end):
        x = _LEFT + tick * scale
        out.append(
            f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="{ink}" stroke-opacity=".15"/>'
            f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" fill="{ink}">{tick}</text>'
        )
    for machine in range(instance.num_machines):
        y = _TOP + _ROW * machine
        out.append(
            f'<text x="{_LEFT - 6}" y="{y + 15}" text-anchor="end" fill="{ink}">M{machine}</text>'
        )
        if instance.available[machine]:
            width = instance.available[machine] * scale
            out.append(
                f'<rect x="{_LEFT}" y="{y + 2}" width="{width:.1f}" height="{_ROW - 4}" '
                f'fill="{ink}" fill-opacity=".12"><title>busy until '
                f"{instance.available[machine]}</title></rect>"
            )
    for job, length in enumerate(instance.lengths):
        colour = _colour(job, instance.num_jobs)
        for op in range(length):
            out.append(_bar(instance, starts, job, op, colour, scale))
    return "\n".join([*out, "</svg>"]) + "\n"


def _bar(
    instance: JSPInstance, starts: np.ndarray, job: int, op: int, colour: str, scale: float
) -> str:
    begin, duration = int(starts[job, op]), int(instance.durations[job, op])
    x, y = _LEFT + begin * scale, _TOP + _ROW * int(instance.machines[job, op]) + 2
    width = max(duration * scale, 0.6)
    label = ""
    if width > 7 * len(str(job)) + 3:
        label = (
            f'<text x="{x + width / 2:.1f}" y="{y + 13}" text-anchor="middle" fill="#fff">'
            f"{job}</text>"
        )
    return (
        f"<g><title>job {job}, operation {op}: {begin} to {begin + duration}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 4}" fill="{colour}" '
        f'stroke="#fff" stroke-width=".6"/>{label}</g>'
    )
