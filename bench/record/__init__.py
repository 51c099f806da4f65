"""The record of a run: attempts, the store and its index, the tables made from them."""
