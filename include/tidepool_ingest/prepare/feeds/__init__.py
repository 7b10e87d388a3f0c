"""What a record of a feed needs besides: an origin of its own, and one version of it in a batch."""
