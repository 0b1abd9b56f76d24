"""One network, its committee, an ensemble, an ensemble of committees: compared on rows and images held out."""
