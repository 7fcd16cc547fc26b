"""The paper's image encoder: a narrow ResNet V1 with bottleneck blocks."""

from __future__ import annotations

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from emergent_icl.models.convolution import PointwiseConv, StemConv
from emergent_icl.models.normalization import BatchNorm, MeanOverDevices
from emergent_icl.models.pooling import max_pool_3x3_stride_2

STEM_CHANNELS = 64
BOTTLENECK_RATIO = 4
# Halvings of height and width: stem, pool, and every group but the first.
STEM_HALVINGS = 2


def num_superpixels(image_size: int, num_groups: int) -> int:
    """Positions that are left behind the last group, of an image H = W = `image_size`."""
    side = image_size
    for _ in range(STEM_HALVINGS + num_groups - 1):
        side = -(-side // 2)
    return side**2


class BottleneckBlock(hk.Module):
    """1x1 -> 3x3 -> 1x1 convolutions around a shortcut (ResNet V1, paper section 2.2)."""

    def __init__(
        self,
        channels: int,
        stride: int,
        project: bool,
        mean_over_devices: MeanOverDevices,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.channels, self.stride, self.project = channels, stride, project
        self.mean_over_devices = mean_over_devices

    def __call__(self, x_NHWC: jax.Array, is_training: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, H/stride, W/stride, channels]."""

        def norm(x: jax.Array, name: str, **options: bool) -> jax.Array:
            return BatchNorm(name, self.mean_over_devices, **options)(x, is_training)

        shortcut = x_NHWC
        if self.project:
            shortcut = PointwiseConv(self.channels, self.stride, "shortcut_conv")(x_NHWC)
            shortcut = norm(shortcut, "shortcut_batchnorm")

        inner = self.channels // BOTTLENECK_RATIO
        x = PointwiseConv(inner, 1, "conv_0")(x_NHWC)
        x = jax.nn.relu(norm(x, "batchnorm_0"))
        x = hk.Conv2D(inner, 3, self.stride, with_bias=False, name="conv_1")(x)
        x = jax.nn.relu(norm(x, "batchnorm_1"))
        x = PointwiseConv(self.channels, 1, "conv_2")(x)
        return jax.nn.relu(norm(x, "batchnorm_2", zero_scale=True) + shortcut)


class ResNet(hk.Module):
    """7x7/2 stem, max-pool, groups of bottleneck blocks, mean over positions.

    With `flatten`, the superpixels that are left are laid side by side instead, and the
    last group has as many fewer channels (original: flatten_superpixels).
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks_per_group: Sequence[int],
        flatten: bool,
        mean_over_devices: MeanOverDevices,
        name: str = "resnet",
    ) -> None:
        """Takes widths and numbers of blocks of the groups; the last width is the embedding's.

        Paper: (16, 32, 32, 64) and (2, 2, 2, 2).
        """
        super().__init__(name=name)
        self.channels, self.blocks_per_group = tuple(channels), tuple(blocks_per_group)
        self.flatten, self.mean_over_devices = flatten, mean_over_devices

    def __call__(self, images_NHWC: jax.Array, is_training: bool) -> jax.Array:
        """Maps float images [N, H, W, 1] to embeddings [N, channels[-1]]."""
        x = StemConv(STEM_CHANNELS, 7, 2, "initial_conv")(images_NHWC)
        norm = BatchNorm("initial_batchnorm", self.mean_over_devices)
        # The ReLU commutes with the pooling, too.
        x = jax.nn.relu(norm(x, is_training, max_pool_3x3_stride_2))
        widths = list(self.channels)
        if self.flatten:
            widths[-1] //= num_superpixels(images_NHWC.shape[1], len(widths))
        for group, (channels, blocks) in enumerate(zip(widths, self.blocks_per_group, strict=True)):
            for block in range(blocks):
                stride = 2 if group and not block else 1
                name = f"group_{group}_block_{block}"
                x = BottleneckBlock(channels, stride, not block, self.mean_over_devices, name)(
                    x, is_training
                )
        if self.flatten:
            return jnp.reshape(x, (x.shape[0], -1))
        return x.mean(axis=(1, 2))
