"""What lies in staging storage, and what is written there."""
