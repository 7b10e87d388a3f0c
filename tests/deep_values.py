"""JSON that nests, and text that is none."""

from __future__ import annotations

import random
from typing import Any


def nested(rng: random.Random, depth: int) -> Any:
    leaves: list[Any] = [None, True, False, 0, -1, 2.5, 1e300, 2**70, "", "é", '"\\\n', "\ud800", [], {}]
    value: Any = rng.choice(leaves)
    for _ in range(depth):
        beside = [rng.choice(leaves) for _ in range(rng.randrange(3))]
        items = [*beside, value]
        rng.shuffle(items)
        names = rng.sample(["z", "a", "", "é", "\n", "b c"], len(items))
        value = items if rng.random() < 0.5 else dict(zip(names, items, strict=True))
    return value


BROKEN = ["{", "}", ',"a"]', '{"a" 1}', "{1:2}", '{"a":}', "[1 2]", "[1,]", "{,}", '"', "[1}", "NaN x"]
