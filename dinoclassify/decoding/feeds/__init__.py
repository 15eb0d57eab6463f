"""Feeds: how results come from a decoding process; see `base.StartFeed`. Import each by name: torch is slow."""
