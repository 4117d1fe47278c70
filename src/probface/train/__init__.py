"""Training the uncertainty head: recipe, cached features, sampler, loop, checkpoint."""
