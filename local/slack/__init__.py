"""A Slack workspace on loopback: Web API and Events API over a company's channels, with the vendor's faults."""
