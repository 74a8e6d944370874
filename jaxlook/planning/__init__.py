"""Planning: what trained models have ready before it is asked for."""

from jaxlook.planning import (
  digits,
  digits_claims,
  digits_plans,
  digits_report,
)

__all__ = ["digits", "digits_claims", "digits_plans", "digits_report"]
