"""What a model's numbers say of a text, and how far another model's are from them."""
