"""Self-supervised depth on simulated textured drives."""

from jaxml.driving.depth import train as training
from jaxml.driving.fusion.recipe import WHY
from jaxml.driving.sim.layout import layouts, split
from jaxml.driving.sim.scene import scenes_of
from jaxml.report.claim import Promise, at_most
from jaxml.report.recipe import Context, Outcome, Table

PAPER = "Monodepth2 on KITTI, from scratch: AbsRel 0.132"
SELF = Promise(
    "driving", "depth-self-supervised", "Depth is learnt from neighbouring frames alone", PAPER,
    "second-hand", "AbsRel",
    at_most(0.12, "simulated textured drives held out, median scaling, sky left out"),
)  # fmt: skip


def measure(scale: str, context: Context) -> Outcome:
    """At "h100" a whole training; nothing elsewhere."""
    if scale != "h100":
        return Outcome([SELF.missing(WHY, context.scale)])
    cfg = training.plan("h100", "self", 6000, 12, context.seed)
    train, held = split(layouts(cfg.sim.room))
    context.say(f"depth from neighbouring frames, {cfg.run.num_steps} updates")
    done = training.train(cfg, scenes_of(train), context.folder / "depth")
    scores = training.evaluate(done, cfg, held, 240, median_scaling=True)
    plain = training.evaluate(done, cfg, held, 240, median_scaling=False)
    rows = tuple((n, f"{scores[n]:.3f}", f"{plain[n]:.3f}") for n in scores)
    table = Table("Depth, simulated", ("", "median scaling", "as predicted"), rows)
    why = f"SIMULATED drives over {held.source} layouts; median scaling"
    return Outcome([SELF.measured(scores["abs_rel"], context.scale, why=why)], tables=[table])
