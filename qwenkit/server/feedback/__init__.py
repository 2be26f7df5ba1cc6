"""What people think of answers: `/v1/feedback`, and the log behind it."""
