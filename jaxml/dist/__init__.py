"""Many devices: meshes, rules for sharding, collectives and several processes."""
