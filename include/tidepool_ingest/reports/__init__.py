"""What people read: the report of a run or a dry run, devices that stopped sending, help with a failure."""
