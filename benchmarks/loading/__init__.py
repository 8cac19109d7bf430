"""What loading takes, dense against pruned, in processes of their own. Read command.py first."""
