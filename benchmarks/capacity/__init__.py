"""How much a service can take: few parameters, a simulation, and how far off both are."""
