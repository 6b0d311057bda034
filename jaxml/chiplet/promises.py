"""What is promised before anything is measured.

The ratios of the paper are those of its two abstracts, which could be read; its body could not.
"""

from jaxml.report.claim import Promise, at_least, at_most, between

SYSTEM = "chiplet"
CALIBRATED = "our package is calibrated to this number"

TIME_70B = Promise(
    SYSTEM,
    "time-70b",
    "Training Llama2-70B is 4.98 times faster than with Megatron tensor parallelism",
    "4.98 x",
    "read",
    "x",
    between(4.731, 5.229, f"within 5 %; {CALIBRATED}"),
)
ENERGY_70B = Promise(
    SYSTEM,
    "energy-70b",
    "and takes 2.35 times less energy",
    "2.35 x",
    "read",
    "x",
    between(2.2325, 2.4675, f"within 5 %; {CALIBRATED}"),
)
TIME_405B = Promise(
    SYSTEM,
    "time-405b",
    "Training Llama3.1-405B is 5.29 times faster (second version)",
    "5.29 x",
    "read",
    "x",
    between(5.0255, 5.5545, "within 5 %, same constants as for 70B"),
)
ENERGY_405B = Promise(
    SYSTEM,
    "energy-405b",
    "and takes 3.46 times less energy",
    "3.46 x",
    "read",
    "x",
    between(3.287, 3.633, "within 5 %, same constants as for 70B"),
)


def level(family: str) -> Promise:
    """Hecaton's weak scaling in a family."""
    return Promise(
        SYSTEM,
        f"weak-scaling-{family}",
        f"Weak scaling: compute and communication keep their ratio as both grow ({family} models)",
        "direction only",
        "read",
        "off the mean",
        at_most(0.10, "largest relative distance of time per FLOP of a die, 16 to 1,024 dies"),
    )


def steep(family: str) -> Promise:
    """The flat ring's growth in a family."""
    return Promise(
        SYSTEM,
        f"flat-ring-growth-{family}",
        f"Tensor parallelism on a ring does not scale ({family} models)",
        "direction only",
        "read",
        "x",
        at_least(4.0, "time per FLOP of a die, 1,024 dies over 16"),
    )


FIT = Promise(
    SYSTEM,
    "measured-in-sample",
    "Eight measured iterations on A100 are predicted, two constants fitted",
    "none: our addition (Calculon's validation prints 3.65 %)",
    "none",
    "error",
    at_most(0.025),
)
HELD = Promise(
    SYSTEM,
    "measured-held-out",
    "A model's iterations are predicted from those of the other models",
    "none: our addition",
    "none",
    "error",
    at_most(0.05),
)
HELD_WORST = Promise(
    SYSTEM,
    "measured-held-out-worst",
    "and the worst of the eight",
    "none: our addition (Calculon's worst, nothing held out, is 8.87 %)",
    "none",
    "error",
    at_most(0.10),
)
ASPECT = Promise(
    SYSTEM,
    "gradient-aspect",
    "Gradients find a better mesh than the square, gathers overlapped with scatters",
    "none: our addition",
    "none",
    "x faster",
    at_least(1.4, "than the paper's scheme; at most 200 steps, exact model, 1,024 dies"),
)
BUDGET = Promise(
    SYSTEM,
    "gradient-budget",
    "Gradients find better hardware within budgets of area and power than random search",
    "none: our addition",
    "none",
    "x lower",
    at_least(1.0, "energy times delay, against the best random search of equal evaluations"),
)
WIRES = Promise(
    SYSTEM,
    "collectives",
    "Collectives on a mesh without wrap links take the time and links that the model charges",
    "none: our addition",
    "none",
    "apart",
    at_most(
        1e-9,
        "largest relative difference to moving real arrays; rings, matrices with gradients",
    ),
)
EXACT_FRONT = Promise(
    SYSTEM,
    "front-exact",
    "The front of a grid streamed in float32 is that of the whole grid in float64",
    "none: our addition",
    "none",
    "of fronts",
    at_least(1.0, "share that agree; time against energy, and against area"),
)


def speed(designs: float, gradients: float) -> tuple[Promise, Promise]:
    """Designs and gradients per second."""
    return (
        Promise(
            SYSTEM,
            "designs-per-second",
            "Architects sweep millions of designs a second, with a full report of each",
            "none: our addition",
            "none",
            "designs/s",
            at_least(designs, "exact model"),
        ),
        Promise(
            SYSTEM,
            "gradients-per-second",
            "and follow gradients",
            "none: our addition",
            "none",
            "gradients/s",
            at_least(gradients, "time in eight numbers"),
        ),
    )
