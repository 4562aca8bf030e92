"""Batches that do not belong: found by a robust z-score of mean |x|, kept out of the running average.

The running mean mu of eq. 6 is what a threshold stands on, and one batch of clipped, silent or broken
sound moves it by a tenth of that batch's level, however wild. Here each site remembers the levels of its
last batches; one that lies far from their median, in units of their usual deviation from it, is
masked by the mu of the batches before it and leaves mu as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEMORY = 32
"""Levels remembered. What at least 40 % of them agree on is normal: a lasting change is believed after that many."""

WARM_UP = 12
"""Batches at the start that are never judged: nothing is known yet, and features still move fast."""

SPREAD_FLOOR = 0.05
"""Least spread of the logarithm of the level. A repeated sample has no spread, and its rounding is no alarm."""

QUIETEST = 1e-12
"""Added to a level before its logarithm: silence has one too."""

_SHARE = 0.6
"""The deviation that this share of the levels does not exceed. Half would be the median absolute deviation, which is
zero where two levels take turns; of normal numbers, 60 % lie within 0.8416 standard deviations."""
_TO_SIGMA = 1 / 0.8416


class LevelGuard(nn.Module):
    """Judges the levels of one site, a row of memory for each bucket of diffusion time.

    limit: the robust z-score from which a batch is abnormal. Nothing is read back from the device,
    and nothing enters a checkpoint of the model; a resumed run restores the buffers with its own state.
    """

    def __init__(self, limit: float, buckets: int = 1) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("levels", torch.full((buckets, MEMORY), float("nan")), persistent=False)
        self.register_buffer("judged", torch.zeros(buckets, dtype=torch.long), persistent=False)
        self.register_buffer("rejected", torch.zeros(buckets, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def judge(self, sums: Tensor, bucket: int = 0) -> Tensor:
        """sums, float64 [2]: sum of finite |x| and their number -> the same, or zeros for an abnormal batch.

        Zeros are what an average has nothing to absorb from. A batch without finite elements is abnormal too.
        """
        level = torch.log(sums[0] / sums[1] + QUIETEST).float()
        known = self.levels[bucket]
        median = known.nanmedian()
        spread = (torch.nanquantile((known - median).abs(), _SHARE) * _TO_SIGMA).clamp(min=SPREAD_FLOOR)
        far = (level - median).abs() > self.limit * spread
        abnormal = (far & (self.judged[bucket] >= WARM_UP)) | ~torch.isfinite(level)
        place = self.judged[bucket] % MEMORY
        here = torch.arange(MEMORY, device=known.device) == place
        known.copy_(torch.where(here & torch.isfinite(level), level, known))
        self.judged[bucket] += torch.isfinite(level)
        self.rejected[bucket] += abnormal
        return torch.where(abnormal, torch.zeros_like(sums), sums)
