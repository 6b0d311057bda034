"""Networks that more than one system uses, built from `jaxml.nn`.

Each module has a frozen configuration, `params(cfg)` that declares, `init(key, cfg)` that makes
and `apply(params, cfg, x, ...)` that computes. Networks with batch statistics also have
`state(cfg)` and `init_state(cfg)`, take the state and return the new one.
"""
