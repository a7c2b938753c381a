"""Speed, profile, memory and arithmetic."""
