"""The bicycle-MPC problem by CasADi and IPOPT, one problem a call, in a process of its own.

Reads a JSON line `{"starts": [[x, y, heading, speed], ...], "num_steps", "step_s", "weights"}`;
answers with the costs and the seconds of all problems after the first (which warms up).
"""

import json
import sys
import time

import casadi as ca
import numpy as np

MAX_ACCEL, MAX_CURVATURE = 6.0, 0.3


def solver(num, dt, w):
    """The program with the start as parameter; reference: x = 10 t, y = 0, 10 m/s."""
    u, start = ca.SX.sym("u", 2, num), ca.SX.sym("s", 4)
    x, y, psi, v = (start[i] for i in range(4))
    last, cost = ca.SX.zeros(2), 0
    for k in range(num):
        a, c = u[0, k], u[1, k]
        way = v * dt + 0.5 * a * dt**2
        x, y, psi = x + way * ca.cos(psi), y + way * ca.sin(psi), psi + c * way
        v = v + a * dt
        over = [ca.fmax(ca.fabs(a) - MAX_ACCEL, 0) / MAX_ACCEL,
                ca.fmax(ca.fabs(c) - MAX_CURVATURE, 0) / MAX_CURVATURE, ca.fmax(-v, 0)]  # fmt: skip
        terms = [
            w["position"] * (x - 10 * dt * (k + 1)) ** 2, w["position"] * y**2,
            w["speed"] * (v - 10) ** 2, w["heading"] * psi**2, w["accel"] * a**2,
            w["curvature"] * c**2, w["lateral"] * (v**2 * c) ** 2,
            w["jerk"] * (a - last[0]) ** 2, w["twist"] * (c - last[1]) ** 2,
            *(w["limit"] * o**2 for o in over),
        ]  # fmt: skip
        cost, last = cost + 0.5 * sum(terms), u[:, k]
    options = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes"}
    return ca.nlpsol("mpc", "ipopt", {"x": ca.vec(u), "p": start, "f": cost}, options)


def main():
    """One job."""
    job = json.loads(sys.stdin.readline())
    program = solver(job["num_steps"], job["step_s"], job["weights"])
    size, costs, begun = 2 * job["num_steps"], [], 0.0
    for i, start in enumerate(job["starts"]):
        if i == 1:
            begun = time.perf_counter()
        costs.append(float(program(x0=np.zeros(size), p=start)["f"]))
    print(json.dumps({"costs": costs, "seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
