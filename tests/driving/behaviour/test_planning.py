"""Bicycle, controller, drivers, imitation, and a short closed loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxml.driving.planning import bicycle, highway, idm, imitation, mpc, planners, traffic
from jaxml.driving.planning.traffic import Traffic

from . import oracle

SHORT = mpc.MPCConfig(num_steps=8, num_iterations=12)


def test_bicycle_is_the_equation_and_inverts():
    random = np.random.default_rng(0)
    state = np.concatenate(
        [random.normal(0, 20, (300, 2)), random.uniform(-3, 3, (300, 1)),
         random.uniform(2, 30, (300, 1))], 1,
    )  # fmt: skip
    action = np.stack([random.uniform(-6, 6, 300), random.uniform(-0.05, 0.05, 300)], 1)
    after = bicycle.step(jnp.float32(state), jnp.float32(action), 0.1)
    want = np.array([oracle.bicycle(s, a, 0.1) for s, a in zip(state, action, strict=True)])
    np.testing.assert_allclose(after, want, atol=2e-4)
    back = bicycle.inverse(jnp.float32(state), jnp.float32(want), 0.1)
    np.testing.assert_allclose(back[:, 0], action[:, 0], atol=1e-3)
    np.testing.assert_allclose(back[:, 1], action[:, 1], atol=1e-3)


def test_a_standing_car_has_no_curvature():
    still = jnp.array([0.0, 0.0, 0.3, 0.01])
    turned = jnp.array([0.0, 0.0, 0.5, 0.01])
    assert float(bicycle.inverse(still, turned, 0.1)[1]) == 0.0


def test_actions_are_clipped_in_rollouts():
    wild = jnp.full((3, 2), 100.0)
    states = bicycle.rollout(jnp.zeros(4), wild, 0.5)
    assert float(states[-1, 3]) == pytest.approx(9.0)


def case(seed):
    """A start off a straight reference."""
    random = np.random.default_rng(seed)
    state = jnp.float32(
        [0, random.uniform(-2, 2), random.uniform(-0.2, 0.2), random.uniform(6, 14)]
    )
    way = 10.0 * 0.2 * jnp.arange(1, 9, dtype=jnp.float32)
    path = jnp.stack([way, jnp.zeros(8), jnp.zeros(8)], -1)
    problem = mpc.follow(state, path, jnp.full(8, 10.0))
    return problem._replace(
        obstacles=jnp.full((8, 1, 2), jnp.float32(6.0)), extent=jnp.full((1, 2), 2.0)
    )


def stack(problems):
    return jax.tree.map(lambda *x: jnp.stack(x), *problems)


@pytest.fixture(scope="module")
def solved():
    problems = stack([case(i) for i in range(6)])
    return problems, jax.jit(jax.vmap(lambda p: mpc.solve(SHORT, p)))(problems)


def whole_cost(problem, actions):
    """The cost again, step by step."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), problem)
    state, last, total = p.state, p.last_action, 0.0
    for k in range(len(actions)):
        state = oracle.bicycle(state, actions[k], SHORT.step_s)
        now = (p.path[k], p.speed[k], p.obstacles[k], p.extent, p.direction, p.track)
        r = mpc.residuals(
            SHORT, jnp.float32(np.concatenate([state, last])), jnp.float32(actions[k]),
            tuple(jnp.float32(x) for x in now),
        )  # fmt: skip
        total += 0.5 * float(jnp.sum(r**2))
        last = actions[k]
    return total


def test_the_plan_costs_what_it_says_and_no_more_than_scipy_finds(solved):
    problems, plans = solved
    cost = jax.jit(
        lambda a, p: mpc._simulate(SHORT, p, a.reshape(-1, 2))[1]
    )  # the function minimised, checked against the oracle's dynamics above
    slope = jax.jit(jax.grad(lambda a, p: mpc._simulate(SHORT, p, a.reshape(-1, 2))[1]))
    for i in (0, 3):
        one = jax.tree.map(lambda x, i=i: x[i], problems)
        assert float(plans.cost[i]) == pytest.approx(
            whole_cost(one, np.asarray(plans.actions[i], np.float64)), rel=1e-3
        )
        found = optimize.minimize(
            lambda a, p=one: float(cost(jnp.float32(a), p)), np.zeros(16), method="BFGS",
            jac=lambda a, p=one: np.asarray(slope(jnp.float32(a), p), np.float64),
        )  # fmt: skip
        assert float(plans.cost[i]) <= found.fun * 1.01 + 1e-3


def test_a_batch_is_its_problems_one_by_one(solved):
    problems, plans = solved
    one = jax.jit(lambda p: mpc.solve(SHORT, p))(jax.tree.map(lambda x: x[2], problems))
    np.testing.assert_allclose(one.actions, plans.actions[2], atol=2e-3)


@pytest.mark.slow
def test_the_plan_can_be_differentiated(solved):
    problems, _ = solved
    one = jax.tree.map(lambda x: x[1], problems)

    @jax.jit
    def first(y):
        return mpc.solve(SHORT, one._replace(state=one.state.at[1].set(y))).actions[0, 1]

    here = one.state[1]
    ahead, behind = first(here + 0.02), first(here - 0.02)
    assert float(jax.grad(first)(here)) == pytest.approx(float((ahead - behind) / 0.04), rel=0.1)


def test_a_wrong_horizon_is_refused():
    with pytest.raises(ValueError, match="path must have shape"):
        mpc.solve(mpc.MPCConfig(), case(0))


def test_idm_equilibrium():
    cfg = idm.IDMConfig()
    speed = jnp.float32(15.0)
    gap = (cfg.gap_m + 15 * cfg.headway_s) / np.sqrt(1 - (15 / cfg.speed) ** 4)
    assert float(idm.acceleration(cfg, speed, jnp.float32(gap), jnp.float32(0.0))) == pytest.approx(
        0.0, abs=1e-4
    )


def test_pure_pursuit_goes_through_the_point():
    target = jnp.array([6.0, 2.0])
    curve = float(idm.pure_pursuit(jnp.zeros(2), jnp.float32(0.0), target))
    centre = np.array([0.0, 1 / curve])
    assert np.linalg.norm(np.asarray(target) - centre) == pytest.approx(1 / curve, rel=1e-5)


def road(ego_speed=25.0, gap=18.0, lead=15.0):
    """Ego in the middle of three lanes behind a slow car; the left lane is free."""
    ego = jnp.array([0.0, 4.0, 0.0, 5.0, 2.0, ego_speed])
    slow = jnp.array([gap + 5.0, 4.0, 0.0, 5.0, 2.0, lead])
    wall = jnp.array([2.0, 8.0, 0.0, 5.0, 2.0, 25.0])
    others = jnp.stack([slow, wall, jnp.zeros(6)])
    lanes = jnp.array([0.0, 4.0, 8.0])
    return Traffic(
        ego, others, jnp.array([True, True, False]), lanes, jnp.float32(28.0), jnp.float32(4.0)
    )


def test_leaders_and_followers():
    seen = road()
    ahead = traffic.leader(seen, jnp.float32(4.0))
    assert (float(ahead.gap), float(ahead.speed)) == (18.0, 15.0)
    assert float(traffic.leader(seen, jnp.float32(0.0)).gap) == traffic.FREE_M
    assert float(traffic.follower(seen, jnp.float32(0.0)).gap) == traffic.FREE_M


def test_the_driver_brakes_and_the_planner_overtakes():
    cfg = planners.PlannerConfig(mpc=mpc.MPCConfig(num_iterations=5))
    brake = planners.keep_lane(cfg)(road(gap=10.0))
    assert float(brake[0]) < -2.0 and abs(float(brake[1])) < 1e-6
    may = [bool(planners.allowed(cfg, road(gap=40.0), jnp.int32(i))) for i in range(3)]
    assert may == [True, True, False]  # the right lane is taken
    found = jax.jit(lambda s: planners.plan(cfg, s))(road(gap=40.0))
    assert float(found.states[-1, 1]) < 2.0


TINY = imitation.ImitationConfig(
    expert=planners.PlannerConfig(mpc=mpc.MPCConfig(num_steps=8, num_iterations=3)),
    num_waypoints=2, width=16, num_heads=2, num_layers=1, batch_size=8,
    optim=dataclasses.replace(
        imitation.ImitationConfig().optim, total_steps=40, warmup_steps=2, lr=3e-3
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def moments():
    seen = stack([road(20.0 + i, 12.0 + 3 * i) for i in range(8)])
    return imitation.perturb(jax.random.key(0), TINY, seen)


@pytest.mark.slow
def test_imitation_learns_and_ignores_who_is_not_there(moments):
    wanted = jax.jit(lambda s: imitation.answers(TINY, s))(moments)
    assert wanted.shape == (8, 2, 2)
    params, losses = imitation.fit(jax.random.key(1), TINY, moments, wanted)
    assert float(losses[-5:].mean()) < 0.5 * float(losses[:3].mean())
    moved = moments._replace(others=moments.others.at[:, 2].add(50.0))
    a, b = (imitation.waypoints(params, TINY, s) for s in (moments, moved))
    np.testing.assert_array_equal(a, b)


def test_moved_starts_stay_on_the_road(moments):
    assert float(moments.ego[:, 1].min()) >= -1.0 and float(moments.ego[:, 1].max()) <= 9.0
    assert float(jnp.std(moments.ego[:, 1])) > 0.1


def test_steering_undoes_the_simulators_bicycle():
    curve = np.array([[0.0, 0.05], [3.0, -0.1]])
    action = highway.steering(curve)
    slip = np.arctan(0.5 * np.tan(action[:, 1] * highway.STEER))
    np.testing.assert_allclose(np.sin(slip) / (highway.LENGTH_M / 2), curve[:, 1], rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_closed_loop_in_the_simulator():
    pytest.importorskip("highway_env")
    cfg = highway.HighwayConfig(duration_s=2.0, num_vehicles=6, num_seen=4)
    drives = highway.drive(cfg, planners.keep_lane(planners.PlannerConfig()), [1, 2])
    assert drives.ego.shape == (2, 11, 6) and not drives.crashed.any()
    way = drives.ego[:, -1, 0] - drives.ego[:, 0, 0]
    assert np.all((way > 20) & (way < 70))
    again = highway.drive(cfg, planners.keep_lane(planners.PlannerConfig()), [1, 2])
    np.testing.assert_array_equal(drives.ego, again.ego)
    assert len(highway.moments(cfg, drives, 5).ego) == 4
