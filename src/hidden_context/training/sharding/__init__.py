"""How several processes divide a network, its gradients and its optimiser among them."""
