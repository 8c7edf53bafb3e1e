"""A case and what leaves it.

Other rooms use `fields` (`Case`, `Field`), `limits` (what a case may hold), `archive` and `names`
(ZIP archives, names of files), `copies`, `slides` (which field is of which), `answers` and `summary` (what the network says), `verdicts`
(what a reader says), `records` (JSON, CSV, table), `export` (CSV and ZIP of a case), `labelled` (a
folder to train with), `saved` (a case to open again), `pdf`, `pictures` and `words`. Nothing here
knows the page.
"""
