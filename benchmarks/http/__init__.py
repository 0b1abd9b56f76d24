"""The service over HTTP beside its floors: a bare server, the matrix products alone, and both together."""
