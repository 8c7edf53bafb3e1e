"""A case and what leaves it.

Other rooms use `fields` (`Case`, `Field`), `limits` (what a case may hold), `answers` and
`summary` (what the network says), `records` (JSON, CSV, table), `export` (CSV and ZIP of a case),
`pdf` and `words`. Nothing here knows the page.
"""
