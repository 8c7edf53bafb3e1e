"""A case and what leaves it.

Other rooms use `fields` (`Case`, `Field`), `summary`, `records` (JSON, CSV, table), `export`
(CSV and ZIP of a case), `pdf`, `bundle` (what the browser sends) and `words`. Nothing here knows
the page.
"""
