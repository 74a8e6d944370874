"""Planning: measures of tasks that need to look ahead.

  couplets  a rhyme that line 2 prepares; causal tests of the plan
  products  multiplication by digits, with and without padding
  stars     path-star graphs, in the context or learned in the weights

Each package measures all seeds of a variant in one program:

- losses, next to known bounds;
- what models write;
- what a linear probe can read;
- what changes if the state where a plan may be stored is swapped with the state
  of another input.
"""

from jaxlook.planning import couplets, products, stars

__all__ = ["couplets", "products", "stars"]
