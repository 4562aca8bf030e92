"""The dynamic threshold for structured masks: whole columns, rows or tiles live or die."""
