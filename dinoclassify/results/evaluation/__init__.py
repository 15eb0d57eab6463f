"""Rows and the true labels -> how good the predictions are."""
