"""LitServe carries the server: it starts and restarts workers and API processes, and listens.

Of what it moves requests with nothing is used: no manager process, no queues, no batching.
Pictures and codes go through `vqtok.serve.line`, HTTP is `vqtok.serve.http`. The names of LitServe
that this rests on are held by tests/serve/test_lit_contract.py.
"""
