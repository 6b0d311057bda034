"""Measures the tile sizes of the Triton kernel on this GPU, and the chunks of the portable path.

    python benchmarks/tune.py OUT.json

Writes the table with this device's entry replaced: copy it to
`kernels/jaxml_kernels/lightning_attention/tuning.json`. Forward with backward decides.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels"), str(HERE)]

import jax  # noqa: E402
import lightning  # noqa: E402

from jaxml.core import files  # noqa: E402
from jaxml_kernels.lightning_attention import tuning, vjp, xla  # noqa: E402
from jaxml_kernels.lightning_attention.cases import training  # noqa: E402

WIDTHS = ((64, 64), (128, 128), (256, 128))


def _milliseconds(attention, arrays) -> float:
    try:
        side = lightning.InJax(attention, arrays, True).on(arrays)
        return 1e3 * lightning.milliseconds(side, 3).median
    except Exception as error:  # noqa: BLE001 - tiles that do not fit are not chosen
        print(f"  {type(error).__name__}: {str(error)[:120]}")
        return float("inf")


def _arrays(key_width: int, value_width: int):
    case = training(4096, num_heads=2048 // value_width, width=value_width)
    q, k, v, rate, do = lightning.arrays_of(case)
    repeat = key_width // value_width
    q, k = (jax.numpy.concatenate([x] * repeat, -1) for x in (q, k))
    return q, k, v, rate, do


def best_tiles(key_width: int, value_width: int) -> list[int]:
    """The fastest candidate; dq and dk run the kernel with the widths exchanged."""
    kind, arrays = jax.devices()[0].device_kind, _arrays(key_width, value_width)
    found = {}
    for tiles in tuning.candidates(key_width, value_width):
        entry = tuning.table().setdefault(kind, {})
        for c, e in {(key_width, value_width), (value_width, key_width)}:
            entry[f"{c}x{e}"] = list(tiles)
        jax.clear_caches()
        found[tiles] = _milliseconds(lightning.ours("triton"), arrays)
        print(f"{key_width}x{value_width} {tiles}: {found[tiles]:.3f} ms", flush=True)
    return list(min(found, key=lambda tiles: found[tiles]))


def portable() -> None:
    """Prints what other chunks and blocks of the portable path take."""
    arrays = _arrays(128, 128)
    for chunk in (64, 128, 256):
        for block in (1024, 4096, 16_384):
            how = {"chunk": chunk, "block": block}
            op = vjp.differentiable(
                lambda *a, how=how, **k: xla.forward(*a, **k, **how),
                lambda *a, how=how: xla.backward(*a, **how),
            )
            ms = _milliseconds(
                lambda q, k, v, r, op=op: op(q, k, v, r, None, None, False)[0], arrays
            )
            print(f"portable chunk {chunk} block {block}: {ms:.3f} ms", flush=True)


def main() -> None:
    """From the command line."""
    kind = jax.devices()[0].device_kind
    portable()
    made = {f"{c}x{e}": best_tiles(c, e) for c, e in WIDTHS}
    table = {**json.loads(tuning.TABLE.read_text()), kind: made}
    files.write_text(sys.argv[1], json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
