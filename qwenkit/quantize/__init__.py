"""GGUF files with fewer bits a weight, through llama.cpp's own quantiser."""
