"""The network as a service over HTTP, for programs: one interface, `/v1`, on Ray Serve.

The command uses `server` (`Server`, `serving`). `api` has the interface, `network` the replicas that
hold the network, `tokens` who may use it.
"""
