"""Configuration of the pillar detector."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """The grid of pillars.

    Attributes:
      x_m: from, to.
      y_m: from, to.
      z_m: points outside are not used.
      pillar_m: side of a pillar.
    """

    x_m: tuple[float, float] = (0.0, 69.12)
    y_m: tuple[float, float] = (-39.68, 39.68)
    z_m: tuple[float, float] = (-3.0, 1.0)
    pillar_m: float = 0.16

    def __post_init__(self):
        check.types(self)
        check.positive(pillar_m=self.pillar_m)
        for name, (low, high) in (("x_m", self.x_m), ("y_m", self.y_m), ("z_m", self.z_m)):
            if low >= high:
                raise ValueError(f"{name} must rise; got {name}={(low, high)}.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (y) and columns (x)."""
        sides = ((self.y_m[1] - self.y_m[0]), (self.x_m[1] - self.x_m[0]))
        return round(sides[0] / self.pillar_m), round(sides[1] / self.pillar_m)


@dataclasses.dataclass(frozen=True)
class PillarConfig:
    """The detector.

    Attributes:
      grid: of pillars.
      num_classes: heat maps.
      pillar_width: channels of a pillar.
      convs: further convolutions of each stage.
      strides: of each stage's first convolution.
      widths: channels of each stage.
      up_width: channels that each stage adds to the map, at the resolution of the first.
      head_width: of the head's shared convolution and of its branches.
      box_weight: of the boxes' L1; that of the heat map is 1.
      least_radius: of the Gaussians, in cells.
      overlap: the Gaussians' radius keeps this overlap.
      most: candidates decoded.
      least_score: of a box.
      nms: boxes that overlap a better one by more go; seen from above.
      heat_bias: of the heat maps at the beginning.
      kept: share of the running statistics that stays at an update, 0.99 as published; a run of
        some hundred updates needs less, or it is judged by statistics of its beginning.
    """

    grid: GridConfig = GridConfig()
    num_classes: int = 3
    pillar_width: int = 64
    convs: tuple[int, ...] = (3, 5, 5)
    strides: tuple[int, ...] = (2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256)
    up_width: int = 128
    head_width: int = 64
    box_weight: float = 0.25
    least_radius: int = 2
    overlap: float = 0.1
    most: int = 500
    least_score: float = 0.1
    nms: float = 0.2
    heat_bias: float = -2.19
    kept: float = 0.99

    def __post_init__(self):
        check.types(self)
        check.between(0, 1, kept=self.kept)
        check.positive(num_classes=self.num_classes, pillar_width=self.pillar_width)
        check.positive(up_width=self.up_width, head_width=self.head_width, most=self.most)
        if not len(self.convs) == len(self.strides) == len(self.widths) > 0:
            raise ValueError(
                "convs, strides and widths must name the same stages; "
                f"got {self.convs}, {self.strides}, {self.widths}."
            )
        total = 1
        for stride in self.strides:
            total *= stride
        for side, size in zip(("rows", "columns"), self.grid.shape, strict=True):
            check.divides(**{"all_strides": total, side: size})

    @property
    def cell_m(self) -> float:
        """Side of a cell of the head's maps."""
        return self.grid.pillar_m * self.strides[0]

    @property
    def map_shape(self) -> tuple[int, int]:
        """Rows and columns of the head's maps."""
        rows, columns = self.grid.shape
        return rows // self.strides[0], columns // self.strides[0]

    @property
    def bev_width(self) -> int:
        """Channels of the backbone's map."""
        return self.up_width * len(self.widths)


def around(reach_m: float, pillar_m: float) -> GridConfig:
    """A square grid around the sensor."""
    side = (-reach_m, reach_m)
    return GridConfig(side, side, (-3.0, 1.5), pillar_m)


_SMALL = PillarConfig(
    around(40.0, 0.625), 3, 24, (1, 2, 2), (2, 2, 2), (24, 48, 64), 24, 24, most=64, kept=0.9
)
PRESETS = {
    "tiny": PillarConfig(
        around(16.0, 1.0), 3, 8, (0, 0, 0), (2, 2, 2), (8, 8, 8), 8, 8, most=16, kept=0.9
    ),
    "laptop": _SMALL,
    "h100": PillarConfig(
        around(40.0, 0.3125), 3, 64, (3, 5, 5), (2, 2, 2), (64, 128, 256), 128, 64, most=128
    ),
    "kitti": PillarConfig(),
    "nuscenes": PillarConfig(GridConfig((-51.2, 51.2), (-51.2, 51.2), (-5.0, 3.0), 0.2), 10),
}
"""By scale; "kitti" and "nuscenes" are the published grids and widths."""
