"""Networks, exact mixtures and weight loading."""
