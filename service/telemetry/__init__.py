"""What an operator sees: metrics, drift, logs and traces. The only room that knows Prometheus and OpenTelemetry."""
