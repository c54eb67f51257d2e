"""What is measured about a checkpoint, why it is so, and whether it is good enough."""
