"""How much a service can take: a model with few parameters, a simulation of it, and how far both are from measurement."""
