"""Real requests at a steady pace, and what became of each."""
