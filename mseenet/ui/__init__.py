"""Pieces of the web page; nothing else below `mseenet` imports streamlit."""
