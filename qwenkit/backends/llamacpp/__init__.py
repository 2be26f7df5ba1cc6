"""llama.cpp through its low-level C API."""
