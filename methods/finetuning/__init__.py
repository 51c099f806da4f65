"""Fine-tuning: methods that fit the flow once and then sample it."""
