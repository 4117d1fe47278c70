"""A convolution padded as TensorFlow pads: 'SAME'.

The output has ``ceil(size / stride)`` rows. What padding that needs is divided evenly, an odd row or column going to
the END: with 3x3, stride 2 and an even input that is one at the end only, where torch's ``padding=1`` puts one at both
ends and shifts the image by a pixel.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SameConvolution(nn.Conv2d):
    """``nn.Conv2d`` without bias and with 'SAME' padding; square kernel and stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = same_padding(images.shape[2], kernel, stride)
        left, right = same_padding(images.shape[3], kernel, stride)
        if (top, left) == (bottom, right):
            return functional.conv2d(images, self.weight, None, stride, (top, left))
        return functional.conv2d(functional.pad(images, (left, right, top, bottom)), self.weight, None, stride)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """How many rows go before and after ``size`` rows."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
