"""Label Studio: people judge answers there, and what they say comes back as ratings.

    push: answers ─▶ tasks ─▶ a project          pull: a project's annotations ─▶ ratings ─▶ the log

Knows the log's records and Label Studio's tasks. The package `label-studio-sdk` is imported when a
server is talked to (`client`); everything else here works without it.
"""
