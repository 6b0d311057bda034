"""What of NoisyCGD is re-measured: epsilon, accuracy, audits, the exact program."""

import dataclasses
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import config, files
from jaxml.dp import audit, claims, clip, exact, gating, gdp, pictures, study, train
from jaxml.dp.config import NUM_GATES, PRESETS, ConvexReLUConfig, NoisyCGDConfig
from jaxml.dp.data import Data, Found, load_or_make
from jaxml.dp.study import StudyConfig
from jaxml.report import claim
from jaxml.report.claim import Claim
from jaxml.report.recipe import Context, Figure, Outcome, Recipe, Table


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale.

    Attributes:
      headline: one training on MNIST, or None.
      num_gates: of the headline.
      mark: accuracy asked of it.
      studies: data set and experiment.
      num_canaries: of the one-run audit.
      audit_rows: training examples of the audit.
      epochs: at which accountants are compared.
    """

    headline: NoisyCGDConfig | None
    num_gates: int
    mark: float
    studies: tuple[tuple[str, StudyConfig], ...]
    num_canaries: int
    audit_rows: int
    epochs: tuple[int, ...] = (1, 5, 20, 100, 400)


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Accountants, headline, studies, audits, the exact program; finished parts are taken over."""
    decided = claims.of_accountant(context.scale)
    decays = (5.4e-5, 1e-4, 1e-3)
    figures: list[Figure] = [pictures.against_epochs(cfg.epochs, decays, 5.0, 60, 1e-5)]
    tables: list[Table] = []
    decided += _sampling(decays[:2], context)
    found = load_or_make("mnist", 4 * cfg.audit_rows)
    sources = [found.provenance]
    if cfg.headline is not None:
        decided += _headline(cfg, cfg.headline, found, context)
    for name, one in cfg.studies:
        mine = found if name == "mnist" else load_or_make(name, one.num_train)
        sources.append(mine.provenance)
        more = _study(name, one, mine, context)
        decided, figures, tables = decided + more[0], figures + more[1], tables + more[2]
    decided += [*_audits(cfg, found.data, context), _flat(context), _exact(context)]
    return Outcome(decided, figures, tables, data=list(dict.fromkeys(sources)))


def _sampling(decays: tuple[float, ...], context: Context) -> list[Claim]:
    try:
        theirs = pictures.sampled_epsilon(5.0, 60, 400, 1e-5)
    except ImportError as error:
        context.say(str(error))
        return []
    ours = [gdp.gdp_epsilon(gdp.noisy_cgd_mu(1 - d, 60, 400, 0.4), 1e-5) for d in decays]
    pairs = zip(decays, ours, strict=True)
    return [claims.gain_over_sampling(d, e, theirs, context.scale) for d, e in pairs]


def _headline(
    cfg: RecipeConfig, training: NoisyCGDConfig, found: Found, context: Context
) -> list[Claim]:
    """One training, resumed where it was stopped; its noise is tested on pixels always black."""
    law = claims.promise(
        "noise-law",
        "Noise is added once and at the stated size (pixels that are always black)",
        "none",
        "none",
        "variance found / variance expected",
        claim.between(0.95, 1.05),
    )
    asked = dataclasses.replace(
        claims.accuracy("mnist", 4.62, cfg.mark), id="mnist-quick",
        paper_words=f"NoisyCGD on MNIST, {cfg.num_gates} gates, {training.epochs} epochs, sigma 5",
        paper="not read", paper_source="none",
    )  # fmt: skip
    if found.why:
        return [promise.missing(found.why, context.scale) for promise in (law, asked)]
    data = found.data
    num = len(data.label) // training.batch_size * training.batch_size
    model = ConvexReLUConfig(data.x.shape[1], 10, cfg.num_gates)
    context.say(f"MNIST: {num} examples, {training.epochs} epochs, {cfg.num_gates} gates")

    def measure() -> dict[str, float]:
        key = jax.random.key(context.seed)
        folder = context.folder / "headline"
        trained = train.train_noisy_cgd(
            key, data.x[:num], data.label[:num], model, training, folder=folder
        )
        assert trained.report is not None
        untouched = np.asarray(data.x[:num].max(0) == 0)
        updates = training.epochs * num // training.batch_size
        seen = audit.noise_law(trained.v, untouched, training, model, updates)
        right = gating.accuracy(trained.v, trained.u, data.test_x, data.test_label)
        return {"right": right, "eps": trained.report.epsilon, **seen._asdict()}

    got = _kept(context, f"headline-{config.fingerprint(training)}", measure)
    context.say(f"{got['right']:.2f} % at epsilon {got['eps']:.3f}")
    why = f"epsilon {got['eps']:.3f}, {training.clip_mode}, one training, settings not tuned here"
    about = f"{got['count']:.0f} coordinates, two-sided p = {got['p_value']:.2g}"
    return [
        asked.measured(got["right"], context.scale, why=why),
        law.measured(got["ratio"], context.scale, why=about),
    ]


def _study(
    name: str, cfg: StudyConfig, found: Found, context: Context
) -> tuple[list[Claim], list[Figure], list[Table]]:
    if found.why:
        return claims.missing([name], cfg, found.why, context.scale), [], []
    folder = context.folder / f"{name}-{config.fingerprint(cfg)}"
    tuning, scores = study.study(cfg, found.data, folder, seed=context.seed, say=context.say)
    return (
        claims.of_study(name, cfg, scores, context.scale),
        [pictures.against_epsilon(name, cfg, scores)],
        [pictures.accuracies(name, cfg, scores), pictures.grids(name, cfg, tuning)],
    )


def _audits(cfg: RecipeConfig, data: Data, context: Context) -> list[Claim]:
    """A lower bound from one training must stay below the claim, and one without noise above it."""
    asked = claims.promise(
        "audit-one-run",
        "No audit finds more than the claimed epsilon (zero-out adjacency)",
        "none",
        "none",
        "lower bound at 95 % minus claimed epsilon",
        claim.at_most(0.0),
    )
    training = NoisyCGDConfig(batch_size=cfg.audit_rows // 4, epochs=10, noise_multiplier=0.5)
    model = ConvexReLUConfig(data.x.shape[1], 10, 8)

    def measure() -> dict[str, float]:
        rows = data.x[: cfg.audit_rows], data.label[: cfg.audit_rows]
        key, num = jax.random.key(context.seed), cfg.num_canaries
        found = audit.one_run(key, *rows, model, training, num_canaries=num)
        return dataclasses.asdict(found)

    context.say(f"one-run audit with {cfg.num_canaries} canaries")
    got = _kept(context, "audit", measure)
    why = (
        f"{got['correct']} of {got['guesses']} guesses right: at least {got['eps_lower']:.2f}; "
        f"claimed {got['eps_claimed']:.2f}"
    )
    return [asked.measured(got["eps_lower"] - got["eps_claimed"], context.scale, why=why)]


def _flat(context: Context) -> Claim:
    """The Lipschitz factor of an update with flat clipping at one point, by finite differences."""
    asked = claims.promise(
        "flat-clip-contracts",
        "With clipping as DP-SGD does it, an update still contracts by 1 - eta lambda",
        "assumed",
        "second-hand",
        "factor found minus factor claimed, x 1e4",
        claim.at_most(0.0),
    )
    eta, l2, h = 0.5, 1e-3, 1e-3
    z, label, radius = jnp.array([-0.139, 1.712, 0.122]), jnp.zeros((1,), int), jnp.array([0.1])

    def factor(mode: str) -> float:
        def update(z: jax.Array) -> jax.Array:
            r = clip.bounded_residual(z[None], label, radius, mode, "softmax_ce")  # pyright: ignore[reportArgumentType]
            return z - eta * (r[0] + l2 * z)

        columns = [(update(z + h * e) - update(z - h * e)) / (2 * h) for e in jnp.eye(3)]
        return float(np.linalg.norm(np.stack(columns, 1).astype(np.float64), 2))

    flat, envelope = (factor(mode) for mode in ("flat", "envelope"))
    why = (
        f"three classes, one example: {flat:.5f} against {1 - eta * l2:.5f}; `envelope` gives "
        f"{envelope:.5f}. Flat clipping is therefore reported as heuristic"
    )
    return asked.measured(1e4 * (flat - (1 - eta * l2)), context.scale, why=why)


def _exact(context: Context) -> Claim:
    """A small instance: the program's optimum is reached by the network made from it."""
    asked = claims.promise(
        "exact-program",
        "The convex program's optimum is that of the two-layer ReLU network",
        "equality",
        "recalled",
        "relative gap, program against mapped network",
        claim.between(-1e-6, 1e-6),
    )
    draw = np.random.default_rng(context.seed)
    x, y = draw.normal(size=(7, 2)), draw.normal(size=7)
    solved = exact.solve_exact_relu_program(x, y, 0.1)
    value = exact.network_objective(x, y, *exact.to_relu_network(solved.v, solved.w), 0.1)
    why = f"{len(solved.patterns)} activation patterns of 7 points in the plane"
    return asked.measured((value - solved.objective) / solved.objective, context.scale, why=why)


def _kept(context: Context, name: str, measure: Callable[[], dict]) -> dict:
    path = context.folder / f"{name}.json"
    if not path.exists():
        files.write_text(path, json.dumps(measure()) + "\n")
    return json.loads(path.read_text())


_LAPTOP = RecipeConfig(
    PRESETS["laptop"],
    NUM_GATES["laptop"],
    90.0,
    (
        (
            "mnist",
            StudyConfig(
                NoisyCGDConfig(epochs=10),
                16,
                64,
                (1.34, 4.62),
                (4.62,),
                learning_rates=(1.95, 3.9),
                decays=(5.4e-5, 1e-3),
                network_rates=(2.4, 9.6),
                logistic_rates=(4.8, 19.2),
                sgd_clips=(0.5, 1.5),
                num_seeds=2,
                num_train=20_000,
                num_held_out=5_000,
            ),
        ),
    ),
    num_canaries=1000,
    audit_rows=4000,
)
_TINY = RecipeConfig(
    NoisyCGDConfig(epochs=1),
    2,
    10.0,
    (
        (
            "mnist",
            StudyConfig(
                NoisyCGDConfig(batch_size=100, epochs=1),
                2,
                4,
                (4.62,),
                (4.62,),
                (3.9,),
                (1e-3,),
                (0.3,),
                (1.2,),
                (0.5,),
                num_seeds=1,
                num_train=400,
                num_held_out=100,
            ),
        ),
    ),
    num_canaries=50,
    audit_rows=200,
    epochs=(1, 4),
)
_FULL = StudyConfig(PRESETS["h100"])
_H100 = RecipeConfig(
    PRESETS["laptop"],
    NUM_GATES["laptop"],
    90.0,
    (
        ("mnist", _FULL),
        ("fashion_mnist", _FULL),
        ("cifar10_complete", dataclasses.replace(_FULL, num_train=50_000)),
    ),
    num_canaries=5000,
    audit_rows=20_000,
)

RECIPE = Recipe(
    system="dp",
    title="Convex ReLU networks with hidden-state privacy",
    about="Noisy cyclic gradient descent on a convex two-layer ReLU model: its accountant beside "
    "others, its accuracy beside DP-SGD networks and logistic regression at equal epsilon, audits.",
    scales={"tiny": _TINY, "laptop": _LAPTOP, "h100": _H100},
    run=run,
)
