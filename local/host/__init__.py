"""The one-machine host of the Functions app: HTTP, timers, queues and change feeds as Azure runs them."""
