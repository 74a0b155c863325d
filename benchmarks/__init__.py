"""Time, memory and launches of the library, measured against bare open_clip and the literal computation."""
