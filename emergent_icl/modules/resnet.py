"""The paper's image encoder: a narrow ResNet V1 with bottleneck blocks."""

from __future__ import annotations

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from emergent_icl.modules.pooling import max_pool_3x3_stride_2

STEM_CHANNELS = 64
BOTTLENECK_RATIO = 4
GROUP_STRIDES = (1, 2, 2, 2)


def batch_norm(name: str, axis_name: str | None, *, zero_scale: bool = False) -> hk.BatchNorm:
    """BatchNorm with the paper's constants, synchronised over `axis_name`.

    Args:
      name: module name.
      axis_name: the mapped axis whose members share their statistics; None
        outside `pmap`.
      zero_scale: start with scale 0, so that a residual branch starts silent.
    """
    return hk.BatchNorm(
        create_scale=True,
        create_offset=True,
        decay_rate=0.9,
        eps=1e-5,
        scale_init=jnp.zeros if zero_scale else None,
        cross_replica_axis=axis_name,
        name=name,
    )


class BottleneckBlock(hk.Module):
    """1x1 -> 3x3 -> 1x1 convolutions around a shortcut (ResNet V1, paper section 2.2)."""

    def __init__(
        self, channels: int, stride: int, project: bool, axis_name: str | None, name: str
    ) -> None:
        super().__init__(name=name)
        self.channels, self.stride, self.project = channels, stride, project
        self.axis_name = axis_name

    def __call__(self, x_NHWC: jax.Array, is_training: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, H/stride, W/stride, channels]."""
        shortcut = x_NHWC
        if self.project:
            shortcut = hk.Conv2D(
                self.channels, 1, self.stride, with_bias=False, name="shortcut_conv"
            )(shortcut)
            shortcut = batch_norm("shortcut_batchnorm", self.axis_name)(shortcut, is_training)

        inner = self.channels // BOTTLENECK_RATIO
        layers = ((inner, 1, 1), (inner, 3, self.stride), (self.channels, 1, 1))
        x = x_NHWC
        for i, (channels, kernel, stride) in enumerate(layers):
            last = i == len(layers) - 1
            x = hk.Conv2D(channels, kernel, stride, with_bias=False, name=f"conv_{i}")(x)
            x = batch_norm(f"batchnorm_{i}", self.axis_name, zero_scale=last)(x, is_training)
            x = x if last else jax.nn.relu(x)
        return jax.nn.relu(x + shortcut)


class ResNet(hk.Module):
    """7x7/2 stem, max-pool, four groups of bottleneck blocks, mean over positions."""

    def __init__(
        self,
        channels: Sequence[int],
        blocks_per_group: Sequence[int],
        axis_name: str | None,
        name: str = "resnet",
    ) -> None:
        """Builds the encoder.

        Args:
          channels: width of each of the four groups; paper: (16, 32, 32, 64). The
            last is the embedding width.
          blocks_per_group: number of blocks in each group; paper: (2, 2, 2, 2).
          axis_name: see `batch_norm`.
          name: module name.
        """
        super().__init__(name=name)
        self.channels, self.blocks_per_group = tuple(channels), tuple(blocks_per_group)
        self.axis_name = axis_name

    def __call__(self, images_NHWC: jax.Array, is_training: bool) -> jax.Array:
        """Maps float images [N, H, W, 1] to embeddings [N, channels[-1]]."""
        x = hk.Conv2D(STEM_CHANNELS, 7, 2, with_bias=False, name="initial_conv")(images_NHWC)
        x = jax.nn.relu(batch_norm("initial_batchnorm", self.axis_name)(x, is_training))
        x = max_pool_3x3_stride_2(x)
        groups = zip(self.channels, self.blocks_per_group, GROUP_STRIDES, strict=True)
        for group, (channels, blocks, group_stride) in enumerate(groups):
            for block in range(blocks):
                first = block == 0
                x = BottleneckBlock(
                    channels,
                    group_stride if first else 1,
                    project=first,
                    axis_name=self.axis_name,
                    name=f"group_{group}_block_{block}",
                )(x, is_training)
        return x.mean(axis=(1, 2))
