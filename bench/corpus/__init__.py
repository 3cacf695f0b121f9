"""Broken output of language models, generated with seeds from known truth. `cases.py` says how it is put together."""
