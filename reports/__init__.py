"""Experiments whose text, tables and plots are made from their own numbers; one package each."""
