"""Division of a network, its gradients and its optimiser over several processes."""
