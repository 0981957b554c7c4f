"""What the authors' networks and ours are both given: seeds, sizes, weights and inputs."""
