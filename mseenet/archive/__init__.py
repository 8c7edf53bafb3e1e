"""Millions of fields on one machine or many: from folders, archives and object stores to Parquet.

The command uses `job` (`Job`, `score`), which takes images from `sources`, has them answered by the
workers of `scoring`, and keeps the rows in a folder of `store`. The only room that knows Ray Data.
"""
