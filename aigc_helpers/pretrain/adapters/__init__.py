"""Builders of the adapters."""
