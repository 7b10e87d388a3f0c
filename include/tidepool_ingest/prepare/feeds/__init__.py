"""What records of a feed need in addition: an origin each, and one version of each in a batch."""
