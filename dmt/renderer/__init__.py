"""From motion to frames: `warp` moves the portrait's own pixels and needs no weights."""
