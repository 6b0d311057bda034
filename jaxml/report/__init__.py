"""From measured claims to one self-contained page."""
