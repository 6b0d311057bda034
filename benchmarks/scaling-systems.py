"""Systems spread over several devices beside one of them: speed-up, and equality of the answers.

    python benchmarks/scaling-systems.py OUT.json [--devices 2] [--only jsp merge ...]

One device and all do the same work in alternation; before that their answers are compared: a row
`difference` beside what is allowed, and exit status 1 where it is more. The work is made (random
instances, features, clips, designs): jax, numpy, optax and flax are enough. The file grows row by
row.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from jaxml.cap import bank  # noqa: E402
from jaxml.chiplet import presets  # noqa: E402
from jaxml.chiplet.sweep import prepared  # noqa: E402
from jaxml.dist import mesh as meshes  # noqa: E402
from jaxml.dist import rules, shard  # noqa: E402
from jaxml.dist.mesh import MeshConfig  # noqa: E402
from jaxml.jsp import batches as jsp_batches  # noqa: E402
from jaxml.jsp import config as jsp_config  # noqa: E402
from jaxml.jsp import objective as jsp_objective  # noqa: E402
from jaxml.jsp import policy, problem, rollout  # noqa: E402
from jaxml.jsp import train as jsp_train  # noqa: E402
from jaxml.merge import covariance  # noqa: E402
from jaxml.report import timing  # noqa: E402
from jaxml.report.timing import Row  # noqa: E402
from jaxml.train import state, step  # noqa: E402
from jaxml.univilm import config as univilm_config  # noqa: E402
from jaxml.univilm import model as univilm_model  # noqa: E402
from jaxml.univilm import optimizer as univilm_optimizer  # noqa: E402
from jaxml.univilm import train as univilm_train  # noqa: E402

SHARE = 0.9
"""Asked for: speed-up over the number of devices, where a device has work enough."""


@dataclasses.dataclass(frozen=True)
class Work:
    """The same work for one device and for all.

    Attributes:
      case: what it is.
      metric: what is counted a second.
      count: how many of them one call makes.
      one: on one device; returns what is compared.
      all: on all devices.
      rtol: allowed difference, as a share of the largest number; 0: equal bits.
      faster: whether more devices shall make it faster, not only possible.
    """

    case: str
    metric: str
    count: int
    one: Callable[[], Any]
    all: Callable[[], Any]
    rtol: float
    faster: bool = True


def compare(work: Work, num_devices: int, repeats: int) -> list[Row]:
    """Speed-up and largest difference."""
    worst = difference(work.one(), work.all())
    within = work.rtol / max(worst, work.rtol / 1000) if work.rtol else float(worst == 0)
    times = timing.alternate({"all": work.all, "one": work.one}, repeats=repeats)
    rates = {name: work.count / found.median for name, found in times.items()}
    gain = rates["all"] / rates["one"]
    case = f"{work.case}, {num_devices} devices"
    goal = SHARE * num_devices if work.faster else None
    return [
        Row(case, work.metric, "/s", rates["all"], "one device", rates["one"], gain, goal),
        Row(case, "difference", "", worst, "allowed", work.rtol, within, 1.0),
    ]


def difference(one: Any, other: Any) -> float:
    """Largest difference of two trees, each array's as a share of its largest number."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        gap = np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)
        worst = max(worst, float(gap)) if np.isfinite(gap) else np.inf
    return worst


def jsp_sampling(mesh: Mesh, smoke: bool) -> Work:
    """Schedules of one instance; every sample draws from its own key, wherever it runs.

    Compared are mean and best makespan: products of another shape may round otherwise, and then a
    sample that stands between two jobs takes the other one.
    """
    cfg = jsp_config.PRESETS["tiny" if smoke else "h100"].model
    jobs, machines, samples = (4, 3, 8 * mesh.size) if smoke else (20, 20, 8192)
    params = policy.init_params(jax.random.key(0), cfg)
    some = problem.random_problems(jax.random.key(1), 1, jobs, machines)
    one = jax.tree.map(lambda x: x[0], some)

    def told(where: Mesh | None) -> Any:
        found = rollout.sample(params, cfg, one, jax.random.key(2), samples, mesh=where).makespans
        return found.mean(), found.min()

    case = f"jsp: {samples} schedules of {jobs} x {machines}"
    return Work(case, "schedules", samples, lambda: told(None), lambda: told(mesh), 1e-2)


def jsp_training(mesh: Mesh, smoke: bool) -> Work:
    """Updates by self-labelling; what is compared is the loss of the first update."""
    base = jsp_config.PRESETS["tiny" if smoke else "h100"]
    shape = (4, 3) if smoke else (15, 15)
    cfg = dataclasses.replace(
        base, shapes=(shape,), batch=4 * mesh.size if smoke else 64, rollout_dtype="float32"
    )
    first = policy.init_params(jax.random.key(0), cfg.model)

    def run(where: Mesh | None) -> Callable[[], Any]:
        params = jax.tree.map(jnp.array, first)
        if where is not None:
            params = shard.put(params, shard.replicated(where))
        optimizer = jsp_train.optimizer(cfg)
        now = state.create(jax.random.key(0), params, optimizer)
        update = step.make_step(
            jsp_objective.slim(cfg.model, cfg.num_samples),
            optimizer,
            shardings=state.shardings(now),
            donate=False,
        )
        batch = next(jsp_batches.Batches(cfg, where))
        return lambda: update(now, batch)[1]["loss"]

    case = f"jsp: training, {cfg.batch} instances of {shape[0]} x {shape[1]}, {cfg.num_samples}"
    return Work(f"{case} samples each", "instances", cfg.batch, run(None), run(mesh), 1e-3)


def cap_bank(mesh: Mesh, smoke: bool) -> Work:
    """Rows fetched from a bank of which every device holds a part: memory, not speed, is won."""
    num, reps, width, rows = (64, 2, 8, 16) if smoke else (1 << 20, 4, 768, 4096)
    made = np.random.default_rng(0).normal(size=(num, 1, 8)).astype(np.float16)
    whole = bank.Bank(np.tile(made, (1, reps, width // 8)))
    ids = jax.random.randint(jax.random.key(1), (rows,), 0, num)
    take = jax.jit(bank.take)
    placed = dataclasses.replace(whole, reps=jnp.asarray(whole.reps))
    split = bank.shard(whole, mesh)
    case = f"cap: {rows} rows of a bank of {num} x {reps} x {width}"
    return Work(
        case,
        "rows",
        rows,
        lambda: take(placed.reps, ids),
        lambda: take(split.reps, ids),
        0.0,
        False,
    )


def merge_covariance(mesh: Mesh, smoke: bool) -> Work:
    """Second moments of the features of two networks over one large batch."""
    samples, width = (64 * mesh.size, 8) if smoke else (1 << 17, 2048)
    x = jax.random.normal(jax.random.key(0), (2, samples, width))
    start = jax.jit(covariance.covariance_init)(x)
    axes = PartitionSpec(None, mesh.axis_names)
    split = shard.put(x, jax.sharding.NamedSharding(mesh, axes))

    def update(now: Any, features: Any) -> Any:
        return covariance.covariance_update(now, features, axis_name=mesh.axis_names)

    spread = jax.jit(shard.over(update, mesh, (PartitionSpec(), axes), PartitionSpec()))
    everywhere = shard.put(start, shard.replicated(mesh))
    alone = jax.jit(covariance.covariance_update)
    case = f"merge: covariances of 2 x {samples} x {width}"
    return Work(
        case,
        "samples",
        samples,
        lambda: _squares(alone(start, x)),
        lambda: _squares(spread(everywhere, split)),
        1e-4,
    )


def _squares(now: covariance.CovarianceState) -> dict[str, Any]:
    return {name: now.sums[name] for name in ("count", "own", "cross")}


def chiplet_sweep(mesh: Mesh, smoke: bool) -> Work:
    """Designs of a package."""
    num = 1024 * mesh.size if smoke else 1 << 24
    values = {
        "link.bandwidth_bytes_s": np.geomspace(8e9, 64e9, num),
        "die.clock_hz": np.geomspace(4e8, 2e9, num),
    }
    given = presets.MODELS["llama2-7b"], presets.default(), values
    one, many = prepared(*given), prepared(*given, mesh=mesh)
    case = f"chiplet: {num} designs"
    return Work(case, "designs", num, lambda: one().time_s, lambda: many().time_s, 1e-6)


def univilm_contrast(mesh: Mesh, smoke: bool) -> Work:
    """A step of joint pre-training: every text against every video of all devices."""
    setting = univilm_config.PRESETS["tiny" if smoke else "h100"]
    cfg = dataclasses.replace(setting.model, dropout=0.0)
    size = 4 * mesh.size if smoke else 1024
    plan = dataclasses.replace(setting.stages["joint"], batch_size=size, n_pair=1)
    draw = np.random.default_rng(0)
    words = draw.integers(5, cfg.vocab_size, (size, 1, setting.max_words), np.int32)
    words[..., 0], words[..., -1] = cfg.cls_id, cfg.sep_id
    frames = (size, 1, setting.max_frames)
    batch = {
        "video": draw.normal(size=(*frames, cfg.video_dim)).astype(np.float32),
        "num_frames": np.full((size, 1), setting.max_frames, np.int32),
        "text": words,
        "caption": words,
        "same": np.arange(size, dtype=np.int32)[:, None],
    }
    whole = univilm_model.init(jax.random.key(0), cfg)
    first = {name: whole[name] for name in univilm_train.trained(plan)}

    def run(where: Mesh | None) -> Callable[[], Any]:
        params, given = jax.tree.map(jnp.array, first), jax.tree.map(jnp.asarray, batch)
        if where is not None:
            params = shard.put(params, shard.replicated(where))
            given = shard.put(batch, shard.batch_sharding(where, rules.DATA))
        optimizer = univilm_optimizer.make(plan)
        now = state.create(jax.random.key(0), params, optimizer)
        loss = univilm_train.make_loss(cfg, plan, where)
        update = step.make_step(loss, optimizer, shardings=state.shardings(now), donate=False)
        return lambda: update(now, given)[1]["loss"]

    case = f"univilm: joint pre-training of {size} clips"
    return Work(case, "clips", size, run(None), run(mesh), 1e-4 if smoke else 5e-3)


SECTIONS: dict[str, Callable[[Mesh, bool], Work]] = {
    "jsp": jsp_sampling,
    "jsp-training": jsp_training,
    "merge": merge_covariance,
    "chiplet": chiplet_sweep,
    "univilm": univilm_contrast,
    "cap": cap_bank,
}


def measure(
    devices: Sequence[Any],
    only: Sequence[str],
    smoke: bool,
    repeats: int,
    keep: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """The sections asked for, on a mesh whose data axis holds all devices."""
    mesh, found = meshes.make(MeshConfig(data=len(devices)), devices), []
    for name in only:
        found += compare(SECTIONS[name](mesh, smoke), len(devices), repeats)
        keep(found)
        print(timing.table(found[-2:]), flush=True)
    return found


def rows(smoke: bool) -> list[Row]:
    """All sections on all devices; nothing to compare on one."""
    devices = jax.devices()
    return measure(devices, list(SECTIONS), smoke, 1 if smoke else 5) if len(devices) > 1 else []


def main() -> None:
    """Parses the flags, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("out", type=Path)
    add("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    add("--devices", type=int, help="use the first so many (default: all)")
    add("--repeats", type=int, default=7)
    add("--smoke", action="store_true", help="smallest sizes")
    args = parser.parse_args()
    devices = jax.devices()[: args.devices]
    found = measure(
        devices, args.only, args.smoke, args.repeats, lambda rows: timing.write(args.out, rows)
    )
    sys.exit(any(row.metric == "difference" for row in timing.missed(found)))


if __name__ == "__main__":
    main()
