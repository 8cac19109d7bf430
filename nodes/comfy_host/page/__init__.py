"""Routes and state of the web page. Imports every other room of the host.

Read `pages.py` first.
"""
