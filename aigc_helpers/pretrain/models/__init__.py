"""Builders of the models."""
