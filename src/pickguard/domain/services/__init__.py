"""The use cases: load an account, let the model decide, save, and try again on a conflict."""
