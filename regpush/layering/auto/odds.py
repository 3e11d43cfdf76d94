"""The odds that a group of items changes in the next push, in fixed-point arithmetic.

A prior from the graph and the observed changes give (changes seen + a * prior) / (pushes seen + a).
The prior assumes that each source package in the group's closure stays unchanged in 98 of 100
pushes.
"""

from __future__ import annotations

from itertools import accumulate, repeat

UNIT = 1 << 32
"""The odds of a certain change, 1, in fixed-point arithmetic."""

_STAYS = 98  # percent
_PRIOR_PUSHES = 4  # `a`: the pushes that the prior is worth
_APART_PUSHES = 2  # the pushes that independence is worth where two groups are joined
_FRACTION_BITS = 16  # of logarithms


class Odds:
    """Computes odds of a change for groups in a closure of at most `origins` source packages."""

    def __init__(self, origins: int) -> None:
        steps = repeat(_STAYS, origins)
        # Computed with twice the digits, so that errors of rounding stay out of the result.
        kept = accumulate(steps, lambda keep, stays: keep * stays // 100, initial=UNIT * UNIT)
        self._prior = tuple(_PRIOR_PUSHES * (UNIT - keep // UNIT) for keep in kept)

    def of(self, changes: int, pushes: int, origins: int) -> int:
        """Return the odds of a change, in units of `UNIT`, below one.

        `changes`: a bit for each of the last `pushes` pushes, set if any item of the group changed
        in that push. `origins`: a bit set of the source packages in the group's closure.
        """
        seen = changes.bit_count() * UNIT + self._prior[origins.bit_count()]
        return seen // (pushes + _PRIOR_PUSHES)

    def together(self, changes: int, pushes: int, origins: int, one: int, other: int) -> int:
        """Return the odds for two groups as one; their own odds are `one` and `other`.

        The other arguments have the meaning that they have for `of`. The result counts a few
        imagined pushes more, in which each group changed independently by its own odds.
        """
        seen = changes.bit_count() * UNIT + self._prior[origins.bit_count()]
        weight = pushes + _PRIOR_PUSHES
        apart = one + other - (one * other // UNIT)
        leaning = (seen + _APART_PUSHES * apart) // (weight + _APART_PUSHES)
        return max(seen // weight, leaning)


def hazard(odds: int) -> int:
    """Return -log2(1 - odds) in units of 2**-16, by which groups are ordered."""
    return _log2(UNIT) - _log2(max(UNIT - odds, 1))


def _log2(number: int) -> int:
    """Return log2 of `number` (>= 1) in units of 2**-16.

    Computed in integers, bit by bit: squaring 2**x gives 2**2x.
    """
    whole = number.bit_length() - 1
    mantissa, result = (number << 64) >> whole, whole
    for _ in range(_FRACTION_BITS):
        mantissa = mantissa * mantissa >> 64
        above = mantissa >> 65
        mantissa >>= above
        result = result << 1 | above
    return result
