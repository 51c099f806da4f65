"""Sequential Monte Carlo: methods that weigh and resample populations."""
