"""Open Inference Protocol `/v2`: a second codec on the same inference, for clients of Triton, KServe and MLServer."""
