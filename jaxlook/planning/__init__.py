"""Planning: tasks that need to look ahead, taken apart.

  couplets  a rhyme that line 2 leads up to; causal tests of the plan
  products  multiplication by digits, with and without padding
  stars     path-star graphs, in the context and learned by heart

Each measures all seeds of a variant in one program, and reports losses beside
known bounds, what is written, what a linear probe reads, and what happens when
the state where a plan may be is another's.
"""

from jaxlook.planning import couplets, products, stars

__all__ = ["couplets", "products", "stars"]
