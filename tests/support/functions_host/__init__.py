"""A Functions host for tests: it drives Microsoft's own worker library as Azure's host does, against the wire's peers.

The worker runs in a process and an environment of its own, made of ``requirements.txt`` (``make worker``). This side
plays the host: it indexes, receives from Service Bus under locks, follows the change feed, fires timers, passes HTTP
requests on, and completes or abandons by what became of the invocation.
"""
