"""Text: data sets, batches of like length, predictions."""
