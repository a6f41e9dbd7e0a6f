"""nano's vision encoder, from tiles to statistics of local features, and the connector to the decoder.

The first convolutions run at full resolution: traces of blur, noise and coding are a few pixels wide, and a linear
patch embedding does not learn them at this size. Each tile is described by the mean and the spread of its features in
a few regions, since distortions are textures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from q_align.models.nano.shape import NanoShape

# numbers of a tile's position, see `q_align.models.nano.tiles.Tile`
POSITION = 5


class FreezableBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose running statistics are frozen with its weights.

    A plain one keeps updating them in training mode, so that a "frozen" encoder would still drift.
    """

    def forward(self, x: Tensor) -> Tensor:
        # one value per channel has no variance
        moving = self.training and self.weight.requires_grad and x.numel() > x.shape[1]
        if not moving:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class Stage(nn.Module):
    """3x3 convolution, normalisation, ReLU; then residual blocks at the same size.

    The first stage has no normalisation: at full resolution it costs as much as all convolutions together.
    """

    def __init__(self, inner: int, outer: int, *, first: bool, blocks: int):
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, 1 if first else 2, 1, bias=first)
        self.norm: nn.Module = nn.Identity() if first else FreezableBatchNorm(outer)
        self.blocks = nn.ModuleList(Block(outer) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    """Depth-wise 3x3, then a two-layer perceptron over the channels, added to its input."""

    def __init__(self, width: int):
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.norm: nn.Module = FreezableBatchNorm(width)
        self.up = nn.Conv2d(width, 2 * width, 1)
        self.down = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        # channels last, where a 1x1 convolution is a matrix product: torch would take its slow path here
        y = self.norm(self.spread(x)).permute(0, 2, 3, 1)
        y = F.relu(F.linear(y, self.up.weight.flatten(1), self.up.bias), inplace=True)
        return x + F.linear(y, self.down.weight.flatten(1), self.down.bias).permute(0, 3, 1, 2)


def fold_normalisation(vision: nn.Module) -> None:
    """Merges every normalisation into the convolution before it: the same numbers up to rounding, a fifth faster.

    For scoring only; nothing can be trained or saved afterwards.
    """
    for part in vision.modules():
        if isinstance(part, Stage):
            part.conv, part.norm = fold_conv(part.conv, part.norm)
        elif isinstance(part, Block):
            part.spread, part.norm = fold_conv(part.spread, part.norm)


def fold_conv(conv: nn.Conv2d, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    if not isinstance(norm, nn.BatchNorm2d):
        return conv, norm
    return fuse_conv_bn_eval(conv, norm), nn.Identity()


class HistogramLinear(nn.Linear):
    """ReLU biases start uniformly spread over the intensity range, so that mean activations form a soft histogram."""


class ToneBranch(nn.Module):
    """Two layers on every fourth pixel of every fourth row: shares of white, black and saturated pixels."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = HistogramLinear(3, width)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inner(x[:, :, ::4, ::4].permute(0, 2, 3, 1)))
        return F.relu(self.outer(x)).permute(0, 3, 1, 2)


class NanoVision(nn.Module):
    """Tiles (N, 3, h, w) in 0..1 -> mean and spread of features in pool x pool regions, (N, pool * pool, F).

    Every stage but the first contributes, not only the last: fine stages show noise and coding, coarse ones blur,
    single pixels tones, and all of them get a gradient from the start.
    """

    def __init__(self, shape: NanoShape):
        super().__init__()
        widths = (3, *shape.channels)
        self.stages = nn.ModuleList(
            Stage(widths[i], widths[i + 1], first=i == 0, blocks=shape.blocks[i]) for i in range(len(shape.channels))
        )
        self.tones = ToneBranch(shape.tones) if shape.tones else None
        self.pool = shape.pool

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = (pixels * 4 - 2).contiguous(memory_format=torch.channels_last)
        found: list[Tensor] = []
        x = pixels
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number:
                found += self.pooled_statistics(x)
        if self.tones is not None:
            found += self.pooled_statistics(self.tones(pixels))
        return torch.cat(found, 1).flatten(2).transpose(1, 2)  # (N, pool * pool, F)

    def pooled_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of (N, C, h, w) in each region, (N, C, pool, pool)."""
        # the spread is a small difference of large numbers: not in half precision
        x = x.float()
        mean = F.adaptive_avg_pool2d(x, self.pool)
        square = F.adaptive_avg_pool2d(x * x, self.pool)
        # the logarithm: equal perceived steps are equal ratios of spread
        return mean, ((square - mean * mean).clamp_min(0) + 1e-3).log() / 2


class TilePosition(nn.Linear):
    """Embeds the position of a tile. Initialised to zero: positions never seen in training add nothing."""


class Connector(nn.Module):
    """Statistics of a tile and its position -> visual tokens of the decoder's width."""

    def __init__(self, shape: NanoShape):
        super().__init__()
        self.inner = nn.Linear(shape.statistics, 2 * shape.hidden)
        self.outer = nn.Linear(2 * shape.hidden, shape.hidden)
        self.place = TilePosition(POSITION, shape.hidden, bias=False)

    def forward(self, statistics: Tensor, place: Tensor) -> Tensor:
        tokens = self.outer(F.gelu(self.inner(statistics.to(self.inner.weight.dtype))))  # (N, pool * pool, H)
        return tokens + self.place(place.to(self.place.weight.dtype)).unsqueeze(1)
