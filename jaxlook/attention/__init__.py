"""Attention variants: what they are, and how they are computed.

spec            what a variant is, and the flag form that names one
variant         the specs of a whole model, parsed once from a flag
attend          the one public function
reference       the definition: two score matrices, no shortcut
fused           the fast path: its backward pass skips blocked gradients
masks           which keys a query sees, as masks and as ranges of distances
dispatch        chooses the fast path for a device, dtype and length
blockwise       the fast path in plain JAX, a few tiles of scores at a time
banded          narrow ranges of distances, without a score matrix
blocks          panels of queries and tiles of keys
block_sizes     sizes of panels, tiles and steps
pallas_launch   the fast path as Pallas kernels: padding, grids, launches
pallas_kernels  the bodies of these kernels
"""

from jaxlook.attention.attend import attend
from jaxlook.attention.spec import KNOWN, Spec, parse
from jaxlook.attention.variant import Variant, parse_variant

__all__ = ["KNOWN", "Spec", "Variant", "attend", "parse", "parse_variant"]
