"""The record in MLflow: a projection that can be deleted and made again at any time."""
