"""Reports: Markdown tables, and figures in `jaxlook.reporting.figures`."""

from jaxlook.reporting.tables import (
  Rows,
  claim_table,
  code,
  comparison_table,
  count,
  environment_line,
  interval,
  markdown,
  mean,
  measure_table,
  number,
  variant_table,
  write_report,
)

__all__ = [
  "Rows",
  "claim_table",
  "code",
  "comparison_table",
  "count",
  "environment_line",
  "interval",
  "markdown",
  "mean",
  "measure_table",
  "number",
  "variant_table",
  "write_report",
]
