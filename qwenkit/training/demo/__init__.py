"""The recipe of the embedded demo model: its text, its tokenizer, its training, its exam.

`python -m qwenkit.training.demo` runs it from start to end. The order of the modules is the order
of the work: facts, small_talk, tools, prose → corpus → tokenizer → packing → train → exam →
checkpoint.
"""
