"""Text encoders of the transformers library as text stacks."""
