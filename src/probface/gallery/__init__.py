"""The gallery: enrolled people, kept durably, deleted wholly, searched exactly, identified at a stated rate."""
