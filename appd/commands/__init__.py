"""What the commands of `appd` do, but for `run`."""
