"""From judged answers to a better adapter, round by round: what `qwenkit improve` does."""
