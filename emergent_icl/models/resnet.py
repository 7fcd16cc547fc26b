"""The paper's image encoder: a narrow ResNet V1 with bottleneck blocks."""

import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.models.convolution import Conv
from emergent_icl.models.normalization import BatchNorm, MeanOverDevices, Pooled
from emergent_icl.models.pooling import max_pool_3x3_stride_2
from emergent_icl.models.stem import STRIDE, pooled_conv

STEM_CHANNELS = 64
BOTTLENECK_RATIO = 4
# Halvings of height and width: stem, pool, and every group but the first.
STEM_HALVINGS = 2


def num_superpixels(image_size: int, num_groups: int) -> int:
    """Positions that remain after the last group, of an image with H = W = `image_size`."""
    return math.ceil(image_size / 2 ** (STEM_HALVINGS + num_groups - 1)) ** 2


@dataclasses.dataclass
class BottleneckBlock(hk.Module):
    """1x1 -> 3x3 -> 1x1 convolutions around a shortcut (ResNet V1, paper section 2.2)."""

    channels: int
    stride: int
    project: bool
    mean_over_devices: MeanOverDevices
    name: str

    def __call__(self, x_NHWC: jax.Array, is_training: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, H/stride, W/stride, channels]."""

        def norm(x: jax.Array, name: str, **options: bool) -> jax.Array:
            return BatchNorm(name, self.mean_over_devices, **options)(x, is_training)

        shortcut = x_NHWC
        if self.project:
            shortcut = Conv(self.channels, 1, self.stride, "shortcut_conv")(x_NHWC)
            shortcut = norm(shortcut, "shortcut_batchnorm")

        inner = self.channels // BOTTLENECK_RATIO
        x = Conv(inner, 1, 1, "conv_0")(x_NHWC)
        x = jax.nn.relu(norm(x, "batchnorm_0"))
        x = hk.Conv2D(inner, 3, self.stride, with_bias=False, name="conv_1")(x)
        x = jax.nn.relu(norm(x, "batchnorm_1"))
        x = Conv(self.channels, 1, 1, "conv_2")(x)
        return jax.nn.relu(norm(x, "batchnorm_2", zero_scale=True) + shortcut)


@dataclasses.dataclass
class ResNet(hk.Module):
    """7x7/2 stem, max-pool, groups of bottleneck blocks, mean over positions.

    `flatten_superpixels` concatenates the positions instead, and divides the channels of the last
    group by their number. Paper: channels (16, 32, 32, 64), 2 blocks per group.
    """

    options: ml_collections.ConfigDict  # config.model.resnet
    mean_over_devices: MeanOverDevices
    name: str = "resnet"

    def __call__(self, images_NHWC: jax.Array, is_training: bool) -> jax.Array:
        """Maps float images [N, H, W, 1] to embeddings [N, channels[-1]]."""
        x = _stem(images_NHWC, self.options.stem, self.mean_over_devices, is_training)
        widths, flatten = list(self.options.channels), self.options.flatten_superpixels
        if flatten:
            widths[-1] //= num_superpixels(images_NHWC.shape[1], len(widths))
        groups = zip(widths, self.options.blocks_per_group, strict=True)
        for group, (channels, blocks) in enumerate(groups):
            for index in range(blocks):
                stride, name = 2 if group and not index else 1, f"group_{group}_block_{index}"
                block = BottleneckBlock(channels, stride, not index, self.mean_over_devices, name)
                x = block(x, is_training)
        return jnp.reshape(x, (x.shape[0], -1)) if flatten else x.mean(axis=(1, 2))


def _stem(
    images_NHWC: jax.Array, kind: str, mean_over_devices: MeanOverDevices, is_training: bool
) -> jax.Array:
    """A convolution, its norm and max-pool, and a ReLU; `kind` is `config.model.resnet.stem`."""
    conv = Conv(STEM_CHANNELS, 7, STRIDE, "initial_conv")
    norm = BatchNorm("initial_batchnorm", mean_over_devices)
    # Pooling comes before the norm (see BatchNorm), and commutes with the ReLU, too.
    if kind == "whole" or jax.default_backend() != "cpu":
        return jax.nn.relu(norm(conv(images_NHWC), is_training, max_pool_3x3_stride_2))
    w, dtype = conv.weights(images_NHWC), images_NHWC.dtype

    def pool(sign: jax.Array) -> Pooled:
        return pooled_conv(images_NHWC, w * sign.astype(dtype))

    return jax.nn.relu(norm.after_pooling(pool, STEM_CHANNELS, is_training).astype(dtype))
