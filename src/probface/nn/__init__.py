"""Networks in torch. Inside, a network speaks log sigma^2."""
