"""Training by llama.cpp itself, without torch: whole matrices, brought to a low rank."""
