"""What people thought of answers: the log, its index, and what is learnt from it."""
