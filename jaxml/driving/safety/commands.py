"""`jaxml driving safety`: the monitor over recorded drives, and distances on demand."""

from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check
from jaxml.driving.safety import monitor, rss
from jaxml.driving.safety.config import RSSConfig

RULES = RSSConfig()


def safety(
    drives: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    rear: float = 25.0,
    front: float = 25.0,
    step_s: float = 0.2,
    rules: RSSConfig = RULES,
) -> None:
    """Judges drives, or prints the safe distances at two speeds.

    Args:
      drives: an .npz with ego [d, t, 6], others [d, t, o, 6] and mask [d, t, o], as `jaxml driving
        plan` writes; a vehicle is x, y, heading, length, width, speed.
      rear: speed of the rear vehicle, m/s.
      front: speed of the front vehicle, m/s.
      step_s: seconds of a step of the drives.
      rules: what vehicles are assumed to do.
    """
    say = Console()
    if drives is None:
        check.at_least(0, rear=rear, front=front)
        a, b = jnp.float32(rear), jnp.float32(front)
        say.print(f"same direction      {rss.same_direction(a, b, rules):8.2f} m")
        say.print(f"opposite direction  {rss.opposite_direction(a, b, rules):8.2f} m")
        zero = jnp.float32(0.0)
        say.print(f"side by side        {rss.lateral(zero, zero, rules):8.2f} m")
        return
    with np.load(drives, allow_pickle=False) as kept:
        if missing := {"ego", "others", "mask"} - set(kept):
            raise ValueError(f"{drives} must hold ego, others, mask; it lacks {sorted(missing)}.")
        arrays = [jnp.asarray(kept[name]) for name in ("ego", "others", "mask")]
    judge = jax.jit(jax.vmap(lambda e, o, m: monitor.judge(e, o, m, step_s, rules)))
    verdict = jax.tree.map(np.asarray, judge(*arrays))
    table = Table("measure", "mean", "worst")
    for name in monitor.Verdict._fields:
        values = getattr(verdict, name)
        seen = values[np.isfinite(values)]
        least = name.startswith(("least", "first", "progress"))
        worst = (values.min() if least else values.max()) if len(values) else np.nan
        table.add_row(name, f"{seen.mean():.3f}" if len(seen) else "-", f"{worst:.3f}")
    say.print(f"{len(arrays[0])} drives")
    say.print(table)
