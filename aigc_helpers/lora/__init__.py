"""LoRA files: from one format to another without loss, into a model without silent failures, and merged."""
