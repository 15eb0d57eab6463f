"""Rows -> one page of HTML."""
