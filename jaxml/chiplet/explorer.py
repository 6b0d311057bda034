"""The interactive page: move links, mesh and buffers, and see what becomes the bottleneck.

Everything is computed beforehand by the exact model; the page is one file that loads nothing.
"""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.chiplet import presets
from jaxml.chiplet.method import METHODS, TITLES
from jaxml.chiplet.sweep import grid, sweep
from jaxml.report.recipe import Figure

MESHES = ((8, 8), (16, 16), (32, 8), (24, 24), (32, 32), (64, 16), (128, 8))
BANDWIDTHS_GB_S = (8, 16, 24, 32, 48, 64, 96, 128, 256)
SRAM_MIB = (1, 2, 4, 8, 16, 32)
SHOWN = ("flat_ring", "torus_ring", "summa", "hecaton", "dual")
NUMBERS = ("time_s", "compute_s", "nop_s", "energy_j", "feasible")


def compute(model: str = "llama2-70b", methods: tuple[str, ...] = SHOWN) -> dict[str, Any]:
    """The page's numbers: `values[method][number]` over meshes x bandwidths x buffers, flat."""
    columns = grid(
        {
            "mesh": range(len(MESHES)),
            "link.bandwidth_bytes_s": [1e9 * x for x in BANDWIDTHS_GB_S],
            "die.activation_sram_bytes": [2.0**20 * x for x in SRAM_MIB],
        }
    )
    which = columns.pop("mesh").astype(int)
    sides = np.array(MESHES, float)[which]
    columns |= {"mesh.rows": sides[:, 0], "mesh.cols": sides[:, 1]}
    values: dict[str, dict[str, list[float | None]]] = {}
    for method in methods:
        fits = sides[:, 0] == sides[:, 1] if METHODS[method].square else sides[:, 0] > 0
        # A method that needs a square mesh is computed on one and left blank elsewhere.
        rows = np.where(fits, sides[:, 0], sides[:, 1])
        point = columns | {"mesh.rows": rows, "mesh.cols": np.where(fits, sides[:, 1], rows)}
        report = sweep(presets.MODELS[model], presets.paper_v1(), point, method=method)
        values[method] = {
            name: [
                float(f"{x:.4g}") if fit else None
                for x, fit in zip(np.asarray(getattr(report, name), float), fits, strict=True)
            ]
            for name in NUMBERS
        }
    return {
        "model": model,
        "meshes": [f"{r} x {c}" for r, c in MESHES],
        "bandwidths": list(BANDWIDTHS_GB_S),
        "sram": list(SRAM_MIB),
        "start": [MESHES.index((32, 32)), BANDWIDTHS_GB_S.index(32), SRAM_MIB.index(8)],
        "titles": {m: TITLES[m] for m in methods},
        "values": values,
    }


def page(data: dict[str, Any]) -> str:
    """The page as text."""
    template = Path(__file__).with_name("explorer.html").read_text()
    content = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return template.replace("/*DATA*/null", content)


def figure(data: dict[str, Any]) -> Figure:
    """The page inside the report."""
    frame = (
        '<iframe title="Move links, mesh and buffers" loading="lazy" '
        'style="width:100%;height:33rem;border:0;color-scheme:light dark" '
        f'srcdoc="{html.escape(page(data), quote=True)}"></iframe>'
    )
    caption = (
        "Llama2-70B on the calibrated package, exact model, computed beforehand. The same page as "
        "a file of its own: explorer.html in the folder of this run."
    )
    return Figure("chiplet-explorer", "Move links, mesh and buffers", caption, frame)
