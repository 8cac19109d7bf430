"""The command line: opens files, calls the rooms below, prints. Imports all of them.

Read `cli.py` first: one function a command.
"""
