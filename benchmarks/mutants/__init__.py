"""Small wrong changes of the code, and whether the tests notice. Read command.py first."""
