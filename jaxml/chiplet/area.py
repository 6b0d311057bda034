"""Area and power of a design, for budgets. The constants are ours, orders of magnitude at 7 nm."""

from jaxml.chiplet.config import Number, System
from jaxml.chiplet.field import field, record
from jaxml.chiplet.model import Report


@record
class AreaConfig:
    """Silicon of the parts of a die.

    Attributes:
      mac_mm2: of a multiply-add unit with its registers.
      lane_mm2: of a lane of the vector unit.
      sram_mm2_mib: of 1 MiB of SRAM.
      link_mm2_gb_s: of one direction of a link, per GB/s; a die has four neighbours.
      fixed_mm2: of control, router and the rest.
    """

    mac_mm2: Number = field("mm2", ">= 0", default=6e-4)
    lane_mm2: Number = field("mm2", ">= 0", default=2e-3)
    sram_mm2_mib: Number = field("mm2/MiB", ">= 0", default=0.45)
    link_mm2_gb_s: Number = field("mm2/(GB/s)", ">= 0", default=5e-3)
    fixed_mm2: Number = field("mm2", ">= 0", default=1.0)


def package_mm2(system: System, area: AreaConfig | None = None) -> Number:
    """Silicon of all dies.

    >>> from jaxml.chiplet import presets
    >>> round(package_mm2(presets.default(1, 1)), 1)
    18.4
    """
    cost, die = area or AreaConfig(), system.die
    macs = die.num_arrays * die.array_rows * die.array_cols
    sram_mib = (die.weight_sram_bytes + die.activation_sram_bytes) / 2**20
    link_gb_s = 8 * system.link.bandwidth_bytes_s / 1e9
    die_mm2 = (
        macs * cost.mac_mm2
        + die.vector_lanes * cost.lane_mm2
        + sram_mib * cost.sram_mm2_mib
        + link_gb_s * cost.link_mm2_gb_s
        + cost.fixed_mm2
    )
    return system.mesh.num_dies * die_mm2


def power_w(report: Report) -> Number:
    """Mean power of a batch."""
    return report.energy_j / report.time_s
