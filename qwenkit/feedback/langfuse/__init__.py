"""Langfuse: what the model did becomes traces, what people thought of it scores, and back.

    ids           names of traces, observations and scores, made from the records' own
    observations  records ─▶ observations (an answer is a generation, a run of a tool a tool)
    scores        an answer's ratings ─▶ scores, and those that no longer count
    otlp          observations ─▶ OTLP, as bytes
    client        the HTTP routes of a Langfuse server, and their refusals
    sink          records ─▶ the server, while answers are given
    outcome       what became of them there
    push          the log ─▶ the server; rows of a data set ─▶ a dataset
    annotations   a score ─▶ a rating
    pull          the server's scores ─▶ ratings in the log
    history       an answer ─▶ all that was ever said of it
    runs          a dataset ─▶ answers of a model ─▶ a run of it
    run_record    those answers ─▶ the server, as what belongs to the run

Sending is idempotent: whatever is sent again takes the place of what was sent before. The SDK's own
client does not send it, since it tells nobody what was refused or lost.
"""
