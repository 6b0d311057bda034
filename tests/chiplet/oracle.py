"""The cost model once more, from the written equations, with plain floats and math only."""

import math


def hop(n):
    return {1: 0, 2: 1}.get(n, 2)


def ring(n, G, alpha, beta):
    return (n - 1) * (hop(n) * alpha + G / (n * beta))


def hops_of_ring(n, G):
    return 2 * (n - 1) ** 2 / n * G


def gemm(t, K, M, die):
    n, ar, ac = die["arrays"], die["ar"], die["ac"]
    folds = math.ceil(K / ar - 1e-9) * math.ceil(M / ac - 1e-9)
    best, tau = math.inf, 1
    while tau <= n:
        cycles = math.ceil(folds * tau / n) * (math.ceil(t / tau - 1e-9) + 2 * ar + ac - 2)
        best, tau = min(best, cycles), 2 * tau
    return best


def all_reduce(method, R, C, V, alpha, beta):
    """(seconds, sent by a die, byte-hops)."""
    N = R * C
    if method in ("flat_ring", "bidir_ring"):
        if min(R, C) == 1:
            hp, H = hop(N), 2 * (N - 1)
        elif N % 2 == 0:
            hp, H = 1, N
        else:
            hp, H = 2, N + 1
        speed = beta * (2 if method == "bidir_ring" else 1)
        return (
            2 * (N - 1) * (hp * alpha + V / (N * speed)),
            2 * (N - 1) / N * V,
            2 * (N - 1) * V / N * H,
        )

    def torus(R, C, V):
        return (
            2 * ring(C, V, alpha, beta) + 2 * ring(R, V / C, alpha, beta),
            2 * (C - 1) / C * V + 2 * (R - 1) / R * V / C,
            2 * R * hops_of_ring(C, V) + 2 * C * hops_of_ring(R, V / C),
        )

    if method == "torus_ring":
        return torus(R, C, V)
    a, b = torus(R, C, V / 2), torus(C, R, V / 2)
    return max(a[0], b[0]), a[1] + b[1], a[2] + b[2]


def simulate(model, system, method, B, recompute=False, fused=True, regather=True, overlap=0.0):
    """A dict of numbers; `model` and `system` are dicts of plain numbers."""
    h, L, nh, nkv = model["h"], model["L"], model["nh"], model["nkv"]
    f, g, s = model["f"], 1 + model["gated"], model["s"]
    R, C = system["R"], system["C"]
    N, kv, d = R * C, h * nkv // nh, h // nh
    ea, ep, ew, eg, eo = (system[k] for k in ("ea", "ep", "ew", "eg", "eopt"))
    al, be, die = system["alpha"], system["beta"], system["die"]
    q = math.isqrt(N)
    P = {"attn": h * (h + 2 * kv) + h * h, "ffn": (g + 1) * h * f}
    mats = {
        "attn": [(h, h + 2 * kv), (h, h)],
        "ffn": [(h, g * f), (f, h)],
    }
    one_d = method in ("flat_ring", "bidir_ring", "torus_ring", "torus_dual")
    two_d = method in ("hecaton", "dual")

    def local(block, i):
        K, M = mats[block][i]
        if one_d:
            return (K, M / N) if i == 0 else (K / N, M)
        if two_d:
            return (K / C, M / R) if i == 0 else (K / R, M / C)
        return K / q, M / q

    every = [(b, i) for b in mats for i in range(2)]
    if one_d or two_d:
        per_token = max(local(b, i)[0] * ea + local(b, i)[1] * ep for b, i in every)
    else:
        per_token = max((2 * mats[b][i][0] + mats[b][i][1]) / q * ea / q for b, i in every)
    tmax = max(1, math.floor(system["sram_a"] / per_token))
    n = math.ceil(B / min(tmax, B))
    t = B / n

    def col(w):
        G = t * w * ea / C
        return ring(R, G, al, be), 0, (R - 1) / R * G, C * hops_of_ring(R, G)

    def row(w):
        G = t * w * ea / R
        return 0, ring(C, G, al, be), (C - 1) / C * G, R * hops_of_ring(C, G)

    kvr = max(kv / R, min(d, kv))
    Gkv = t * 2 * kvr * ea
    kvrow = (0, ring(C, Gkv, al, be), (C - 1) / C * Gkv, R * hops_of_ring(C, Gkv))
    moves = {}
    if two_d:
        again = [1] if regather else []
        moves["attn", 0] = [col(h), row(h + 2 * kv), kvrow, row(h), col(h)]
        moves["attn", 1] = [col(h), row(h), kvrow, kvrow, row(h + 2 * kv), col(h)]
        moves["attn", 1] += [x for _ in again for x in (row(h), col(h))]
        moves["ffn", 0] = [col(h), row(g * f), row(f), col(h)]
        moves["ffn", 1] = [col(h), row(f), row(g * f), col(h)]
        moves["ffn", 1] += [x for _ in again for x in (row(f), col(h))]
    elif one_d:
        time, sent, far = all_reduce(method, R, C, t * h * ea, al, be)
        for key in [(b, w) for b in mats for w in range(2)]:
            moves[key] = [(time, 0, sent, far)]
    else:

        def call(width, K, M):
            x, y = t * width * ea / q, K * M * ew / q
            sent = (x + y) * (q - 1) / q
            if method == "optimus":
                time = math.log2(q) * (x + y) / be + 2 * q * (q - 1) * al
                return time, 0, sent, N * (x + y) * math.log2(q) / 2
            return max(x, y) / be + q * (q - 1) * al, 0, sent, N * sent

        stream = [kvrow] if method == "summa_kv" else []
        for b in mats:
            moves[b, 0] = [call(K, K, M) for K, M in mats[b]]
            moves[b, 1] = [call(w, K, M) for K, M in mats[b] for w in (K, M)]
            if b == "attn":
                moves[b, 0] += stream
                moves[b, 1] += 2 * stream
    peak = 2 * die["arrays"] * die["ar"] * die["ac"] * die["clk"]
    comp = {}
    for b in mats:
        gemms = sum(gemm(t, *local(b, i), die) for i in range(2)) / die["clk"]
        if b == "attn":
            extra = 4 * t * (s + 1) / 2 * h / N / (die["eta"] * peak)
            extra += (5 * t * (s + 1) / 2 * nh + 8 * t * h) / (N * die["vec"]) / die["clk"]
        else:
            extra = (6 * g * t * f + 8 * t * h) / (N * die["vec"]) / die["clk"]
        comp[b, 0], comp[b, 1] = gemms + extra, 2 * (gemms + extra)
    stash = {"attn": 2 * h + 2 * kv, "ffn": g * f}
    flat = {"attn": 11 * h + 4 * kv, "ffn": 7 * h + 2 * g * f + 2 * f}
    dram = {}
    for b in mats:
        kept = 0 if recompute else stash[b]
        ahead, back = (2 * h + kept, 3 * h + kept) if fused else (flat[b], 2 * flat[b])
        dram[b, 0] = B * ea * ahead + P[b] * ew
        dram[b, 1] = B * ea * back + P[b] * (ew + eo)
    bw = system["channels"] * 2 * (R + C) * system["bw_ch"] * system["dram_eff"]
    total = nop_total = comp_total = sent = far = 0.0
    for b in mats:
        for way in range(2):
            c, m = comp[b, way], list(moves[b, way])
            if way == 1 and recompute:
                c, m = c + comp[b, 0], m + moves[b, 0]
            cols, rows = sum(x[0] for x in m), sum(x[1] for x in m)
            net = max(cols, rows) if method == "dual" else cols + rows
            on = n * ((1 - overlap) * (c + net) + overlap * max(c, net))
            total += L * max(on, dram[b, way] / bw)
            comp_total, nop_total = comp_total + L * n * c, nop_total + L * n * net
            sent += L * n * sum(x[2] for x in m)
            far += L * n * sum(x[3] for x in m)
    flop = L * (6 * sum(P.values()) + 12 * h * (s + 1) / 2) * B * (4 / 3 if recompute else 1)
    moved = L * sum(dram.values())
    e, macs = system["energy"], flop / 2
    energy = {
        "mac_j": macs * e["mac"] * 1e-12,
        "sram_j": (macs * (2 * ea + 2 * ep) / die["ar"] + 2 * N * sent) * e["sram"] * 1e-12,
        "nop_j": far * 8 * e["nop"] * 1e-12,
        "dram_j": moved * 8 * e["dram"] * 1e-12,
        "static_j": e["static"] * N * total,
    }
    resident = sum(P.values()) / N * ew + max(P.values()) / N * eg
    return {
        "time_s": total,
        "compute_s": comp_total,
        "nop_s": nop_total,
        "energy_j": sum(energy.values()),
        **energy,
        "flop": flop,
        "hfu": flop / (total * N * peak),
        "chunk_tokens": t,
        "num_chunks": n,
        "chunk_limit": tmax,
        "sent_bytes": sent,
        "byte_hops": far,
        "dram_bytes": moved,
        "feasible": resident <= system["sram_w"] and tmax >= 16,
    }


def plain(model, system):
    """Records of the library as dicts of plain numbers."""
    m, x = model, system
    shape = dict(zip(("h", "L", "nh", "nkv", "f", "gated", "s"), vars(m).values(), strict=True))
    die, e = x.die, x.energy
    return shape, {
        "R": x.mesh.rows,
        "C": x.mesh.cols,
        "die": {
            "arrays": die.num_arrays,
            "ar": die.array_rows,
            "ac": die.array_cols,
            "clk": die.clock_hz,
            "vec": die.vector_lanes,
            "eta": die.attention_efficiency,
        },
        "sram_w": die.weight_sram_bytes,
        "sram_a": die.activation_sram_bytes,
        "alpha": x.link.latency_s,
        "beta": x.link.bandwidth_bytes_s,
        "channels": x.dram.channels_per_edge,
        "bw_ch": x.dram.channel_bytes_s,
        "dram_eff": x.dram.efficiency,
        "energy": {
            "mac": e.mac_pj,
            "sram": e.sram_pj_byte,
            "nop": e.nop_pj_bit,
            "dram": e.dram_pj_bit,
            "static": e.static_w,
        },
        "ea": x.formats.activation_bytes,
        "ep": x.formats.partial_bytes,
        "ew": x.formats.weight_bytes,
        "eg": x.formats.gradient_bytes,
        "eopt": x.formats.optimizer_bytes,
    }
