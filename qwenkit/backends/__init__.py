"""A backend turns rows of tokens into rows of logits. It knows nothing of requests or text."""
