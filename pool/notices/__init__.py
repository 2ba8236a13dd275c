"""Notifications: what happened reaches whoever asked for it, by webhook and by mail."""
