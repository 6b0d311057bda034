"""Safe distances by ad-rss (Intel), one call a pair, in a process of its own.

Reads a JSON line `{"speeds": [[a, b], ...], "repeats"}`, answers with the distances and the seconds
of `repeats` rounds over all pairs in the three rules.
"""

import json
import sys
import time

from ad_rss import physics, rss

RESPONSE, A_MAX, B_MIN, B_MAX, B_CORRECT, LAT_A, LAT_B, MARGIN = (
    1.0,
    3.5,
    4.0,
    8.0,
    3.0,
    0.2,
    0.8,
    0.1,
)


def dynamics():
    """The parameters of jaxml's RSSConfig."""
    made = rss.world.RssDynamics()
    made.alpha_lon.accel_max = physics.Acceleration(A_MAX)
    made.alpha_lon.brake_max = physics.Acceleration(-B_MAX)
    made.alpha_lon.brake_min = physics.Acceleration(-B_MIN)
    made.alpha_lon.brake_min_correct = physics.Acceleration(-B_CORRECT)
    made.alpha_lat.accel_max = physics.Acceleration(LAT_A)
    made.alpha_lat.brake_min = physics.Acceleration(-LAT_B)
    made.lateral_fluctuation_margin = physics.Distance(MARGIN)
    made.response_time = physics.Duration(RESPONSE)
    made.max_speed_on_acceleration = physics.Speed(100.0)
    free = made.unstructured_settings  # unused by these rules, but must be valid
    free.pedestrian_turning_radius = free.vehicle_min_radius = physics.Distance(3.0)
    free.drive_away_max_angle = physics.Angle(2.4)
    free.vehicle_yaw_rate_change = physics.AngularAcceleration(0.3)
    free.vehicle_trajectory_calculation_step = physics.Duration(0.2)
    for name in dir(free):
        if name.endswith("_steps"):
            setattr(free, name, 1)
    return made


def state(rules, along=0.0, across=0.0, correct=True):
    """A vehicle with these speeds."""
    made = rss.core.RelativeObjectState()
    made.object_type = rss.world.ObjectType.OtherVehicle
    made.dynamics = rules
    made.structured_object_state.velocity.speed_lon_min = physics.Speed(along)
    made.structured_object_state.velocity.speed_lon_max = physics.Speed(along)
    made.structured_object_state.velocity.speed_lat_min = physics.Speed(across)
    made.structured_object_state.velocity.speed_lat_max = physics.Speed(across)
    made.structured_object_state.is_in_correct_lane = correct
    made.structured_object_state.has_priority = False
    made.structured_object_state.distance_to_enter_intersection = physics.Distance(1e3)
    made.structured_object_state.distance_to_leave_intersection = physics.Distance(1e3)
    free = made.unstructured_object_state  # unused by these rules, but must be valid
    free.yaw, free.steering_angle = physics.Angle(0.0), physics.Angle(0.0)
    free.yaw_rate = physics.AngularVelocity(0.0)
    free.dimension.length, free.dimension.width = physics.Distance(4.0), physics.Distance(2.0)
    free.center_point.x = free.center_point.y = physics.Distance(0.0)
    free.speed_range.minimum = free.speed_range.maximum = physics.Speed(0.0)
    return made


def number(distance):
    """Metres of an ad_physics distance."""
    return float(distance.mDistance) if hasattr(distance, "mDistance") else float(distance)


def main():
    """One job."""
    job, rules, s = json.loads(sys.stdin.readline()), dynamics(), rss.structured
    pairs = []
    for a, b in job["speeds"]:
        left, right = (a - 15) / 30, (b - 15) / 30
        pairs.append((
            state(rules, a), state(rules, b), state(rules, b, correct=False),
            state(rules, 0.0, left), state(rules, 0.0, right),
        ))  # fmt: skip
    out = physics.Distance(0.0)
    found = {"same": [], "opposite": [], "lateral": []}
    for rear, front, wrong, left, right in pairs:
        assert s.calculateSafeLongitudinalDistanceSameDirection(front, rear, out)
        found["same"].append(number(out))
        assert s.calculateSafeLongitudinalDistanceOppositeDirection(rear, wrong, out)
        found["opposite"].append(number(out))
        assert s.calculateSafeLateralDistance(left, right, out)
        found["lateral"].append(number(out))
    begun = time.perf_counter()
    for _ in range(job["repeats"]):
        for rear, front, wrong, left, right in pairs:
            s.calculateSafeLongitudinalDistanceSameDirection(front, rear, out)
            s.calculateSafeLongitudinalDistanceOppositeDirection(rear, wrong, out)
            s.calculateSafeLateralDistance(left, right, out)
    found["seconds"] = time.perf_counter() - begun
    print(json.dumps(found))


if __name__ == "__main__":
    main()
