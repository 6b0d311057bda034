"""A planner that learns from another: tokens, a small Transformer, a recurrent waypoint head.

After PlanT (tokens of agents and of the route) and ChauffeurNet (starts moved off the recorded
ones, with the expert's answer computed there, and penalties for collision and leaving the road).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from jaxml.core import check, param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.planning import idm, traffic
from jaxml.driving.planning.planners import PlannerConfig, plan
from jaxml.driving.planning.traffic import Planner, Traffic
from jaxml.nn import attention, linear, mlp, norm
from jaxml.nn.attention import AttentionConfig
from jaxml.train import optim
from jaxml.train.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class ImitationConfig:
    """Sizes, and how starts are moved.

    Attributes:
      expert: who is imitated.
      num_waypoints: of the answer, `every` steps of the expert apart.
      every: steps of the expert.
      width: of a token.
      num_heads: of attention.
      num_layers: of the Transformer.
      collision_weight: of a metre of overlap of own and others' boxes.
      road_weight: of a metre off the road.
      shift_m: standard deviation of starts moved sideways.
      turn: of starts turned, radians.
      speed: of starts sped up, m/s.
      optim: optimiser.
      batch_size: of a step.
    """

    expert: PlannerConfig = PlannerConfig()
    num_waypoints: int = 6
    every: int = 3
    width: int = 64
    num_heads: int = 4
    num_layers: int = 2
    collision_weight: float = 0.2
    road_weight: float = 1.0
    shift_m: float = 1.0
    turn: float = 0.05
    speed: float = 2.0
    optim: OptimConfig = OptimConfig(
        lr=1e-3, schedule="cosine", warmup_steps=50, total_steps=1500, final_lr_ratio=0.02,
        b2=0.999, weight_decay=1e-3,
    )  # fmt: skip
    batch_size: int = 128

    def __post_init__(self):
        check.positive(num_waypoints=self.num_waypoints, every=self.every, width=self.width)
        check.between(1, self.expert.mpc.num_steps, horizon=self.num_waypoints * self.every)
        check.divides(num_heads=self.num_heads, width=self.width)
        check.at_least(0, collision_weight=self.collision_weight, road_weight=self.road_weight)

    @property
    def step_s(self) -> float:
        """Seconds from one waypoint to the next."""
        return self.every * self.expert.mpc.step_s


def _attention(cfg: ImitationConfig) -> AttentionConfig:
    return AttentionConfig(cfg.width, cfg.num_heads, causal=False, bias=True, rope=False)


def params(cfg: ImitationConfig) -> PyTree:
    """Declares the network."""
    w = cfg.width
    layer = {
        "norm": norm.layer_params(w), "attention": attention.params(_attention(cfg)),
        "mlp_norm": norm.layer_params(w), "mlp": mlp.params(w, 2 * w),
    }  # fmt: skip
    return {
        "ego": mlp.params(6, w) | {"down": linear.params(w, w)},
        "agent": linear.params(9, w),
        "agent_out": linear.params(w, w),
        "route": linear.params(3, w),
        "route_out": linear.params(w, w),
        "layers": {str(i): layer for i in range(cfg.num_layers)},
        "norm": norm.layer_params(w),
        "gru": {
            name: {"x": linear.params(3, w), "h": linear.params(w, w)}
            for name in ("update", "reset", "new")
        },
        "move": linear.params(w, 2),
    }


def init(key: Key, cfg: ImitationConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def _features(seen: Traffic) -> tuple[Array, Array, Array]:
    """Tokens' inputs of one moment, relative to the ego vehicle: [6], [o, 9], [l, 3]."""
    ego, others = seen.ego, seen.others
    own = jnp.stack([
        ego[5] / 10, (seen.speed - ego[5]) / 10, jnp.sin(ego[2]) * 10, ego[3] / 5, ego[4] / 2,
        jnp.min(jnp.abs(seen.lanes - ego[1])) / 2,
    ])  # fmt: skip
    x, y = (others[:, 0] - ego[0]) / 20, (others[:, 1] - ego[1]) / 4
    vx, vy = others[:, 5] * jnp.cos(others[:, 2]), others[:, 5] * jnp.sin(others[:, 2])
    closing = (vx - ego[5] * jnp.cos(ego[2])) / 5
    near = jnp.exp(-jnp.abs(x) * 2)
    rest = [x, y, closing, vy, near, jnp.exp(-jnp.abs(y)), others[:, 3] / 5, others[:, 4] / 2]
    agents = jnp.stack([*rest, jnp.sign(x)], -1)
    off = (seen.lanes - ego[1]) / 4
    route = jnp.stack([off, jnp.exp(-jnp.abs(off)), jnp.ones_like(off)], -1)
    return own, agents, route


def _gru(p: PyTree, x: Array, h: Array) -> Array:
    """One step of a gated recurrent unit."""

    def gate(name: str, state: Array) -> Array:
        return linear.apply(p[name]["x"], x) + linear.apply(p[name]["h"], state)

    update, reset = jax.nn.sigmoid(gate("update", h)), jax.nn.sigmoid(gate("reset", h))
    return (1 - update) * h + update * jnp.tanh(gate("new", reset * h))


def waypoints(p: PyTree, cfg: ImitationConfig, seen: Traffic) -> Array:
    """Where to be, relative to the ego vehicle along and across the road, [b, waypoints, 2].

    Args:
      p: from `init`.
      cfg: its configuration.
      seen: moments, leaves [b, ...].
    """
    own, agents, route = jax.vmap(_features)(seen)
    agents = linear.apply(p["agent_out"], jax.nn.gelu(linear.apply(p["agent"], agents)))
    route = linear.apply(p["route_out"], jax.nn.gelu(linear.apply(p["route"], route)))
    x = jnp.concatenate([mlp.apply(p["ego"], own, jax.nn.gelu)[:, None], agents, route], 1)
    b, lanes = x.shape[0], route.shape[1]
    mask = jnp.concatenate([jnp.ones((b, 1), bool), seen.mask, jnp.ones((b, lanes), bool)], 1)
    for i in range(cfg.num_layers):
        layer = p["layers"][str(i)]
        inner = norm.layer(layer["norm"], x)
        x = x + attention.apply(layer["attention"], _attention(cfg), inner, mask=mask)
        x = x + mlp.apply(layer["mlp"], norm.layer(layer["mlp_norm"], x), jax.nn.gelu)
    h = norm.layer(p["norm"], x[:, 0])
    speed = seen.ego[:, 5:6] * cfg.step_s

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
        h, place = carry
        ahead = jnp.concatenate([place / 10, jnp.broadcast_to(k, (b, 1))], -1)
        h = _gru(p["gru"], ahead, h)
        move = linear.apply(p["move"], h)
        place = place + jnp.concatenate([speed + move[:, :1], move[:, 1:]], -1)
        return (h, place), place

    times = jnp.arange(cfg.num_waypoints, dtype=h.dtype) / cfg.num_waypoints
    _, places = jax.lax.scan(step, (h, jnp.zeros((b, 2), h.dtype)), times)
    return jnp.moveaxis(places, 0, 1)


def answers(cfg: ImitationConfig, seen: Traffic) -> Array:
    """The expert's waypoints at every moment, [b, waypoints, 2]."""

    def one(moment: Traffic) -> Array:
        states = plan(cfg.expert, moment).states[cfg.every - 1 :: cfg.every][: cfg.num_waypoints]
        return states[:, :2] - moment.ego[None, :2]

    return jax.lax.map(one, seen, batch_size=256)


def perturb(key: Key, cfg: ImitationConfig, seen: Traffic) -> Traffic:
    """The same moments with the ego vehicle moved sideways, turned and at another speed."""
    noise = jax.random.normal(key, (seen.ego.shape[0], 3))
    shift, turn, faster = cfg.shift_m * noise[:, 0], cfg.turn * noise[:, 1], cfg.speed * noise[:, 2]
    low, high = jnp.min(seen.lanes, 1) - 1.0, jnp.max(seen.lanes, 1) + 1.0
    y = jnp.clip(seen.ego[:, 1] + shift, low, high)
    ego = seen.ego.at[:, 1].set(y)
    ego = ego.at[:, 2].add(turn).at[:, 5].set(jnp.maximum(seen.ego[:, 5] + faster, 1.0))
    return seen._replace(ego=ego)


def loss(p: PyTree, cfg: ImitationConfig, seen: Traffic, wanted: Array) -> Array:
    """L1 to the expert, and the penalties, [] mean over moments and waypoints."""
    found = waypoints(p, cfg, seen)
    ahead = jax.vmap(lambda s: traffic.foresee(s, cfg.num_waypoints, cfg.step_s))(seen)
    place = found + seen.ego[:, None, :2]
    gap = jnp.abs(ahead - place[:, :, None])  # [b, waypoints, o, 2]
    reach = (seen.others[..., 3:5] + seen.ego[:, None, 3:5]) / 2
    inside = jax.nn.relu(reach[:, None] + 0.2 - gap)
    overlap = jnp.where(seen.mask[:, None], jnp.min(inside, -1), 0.0)
    edge = traffic.LANE_M / 2 - seen.ego[:, 4] / 2
    low, high = jnp.min(seen.lanes, 1) - edge, jnp.max(seen.lanes, 1) + edge
    off = jax.nn.relu(low[:, None] - place[..., 1]) + jax.nn.relu(place[..., 1] - high[:, None])
    near = jnp.mean(jnp.abs(found - wanted) * jnp.array([[[0.3, 1.0]]], found.dtype))
    return (
        near
        + cfg.collision_weight * jnp.mean(jnp.sum(overlap, -1))
        + cfg.road_weight * jnp.mean(off)
    )


def fit(key: Key, cfg: ImitationConfig, seen: Traffic, wanted: Array) -> tuple[PyTree, Array]:
    """Trains on moments [n, ...] and the expert's answers; one program.

    Returns:
      Parameters, and the loss of every step.
    """
    optimizer = optim.make(cfg.optim)

    def step(carry: tuple, k: Array) -> tuple:
        params, opt = carry
        rows = jax.random.randint(rng.fold(key, "rows", k), (cfg.batch_size,), 0, len(wanted))
        drawn, target = jax.tree.map(lambda x: x[rows], (seen, wanted))
        value, grads = jax.value_and_grad(loss)(params, cfg, drawn, target)
        updates, opt = optimizer.update(grads, opt, params)
        return (optax.apply_updates(params, updates), opt), value

    @jax.jit
    def run(params: PyTree) -> tuple[PyTree, Array]:
        steps = jnp.arange(cfg.optim.total_steps, dtype=jnp.int32)
        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), steps)
        return params, losses

    return run(init(rng.fold(key, "init"), cfg))


def imitating(p: PyTree, cfg: ImitationConfig) -> Planner:
    """The learnt planner: pure pursuit to its waypoints, and the speed that they ask for."""

    def act(seen: Traffic) -> Array:
        found = waypoints(p, cfg, jax.tree.map(lambda x: x[None], seen))[0]
        ego = seen.ego
        when = 2 * cfg.step_s
        speed = (found[1, 0] - found[0, 0]) / cfg.step_s
        accel = (speed - ego[5]) / (0.75 * when)
        target = ego[:2] + found[1]
        return jnp.stack([accel, idm.pure_pursuit(ego[:2], ego[2], target)])

    return act
