"""One server out of several replicas, on one machine or many: Ray Serve runs them.

    client → Serve's proxy → door (which replica?) → replica (our server, whole) → engine

`ask` is what the door sends, `affinity` what a request has in common with others, `followed` where
a response was written, `choice` which replica these speak for, `routes` what kinds of request there
are, `retries` when another replica is asked, `session` whose an MCP session is, `pages` how several
answers become one, `fleet` how all replicas are asked or changed, `changes` what an admin has
changed since the start, `exchange` how a request that is a value is answered, and `door` puts these
together. They know nothing of Ray; `application`, `calls`, `router`, `ledger`, `replica` and `run`
are its side.
"""
