"""What a run tells people and tools: profiles, dumps of values, memory, in the original's forms and names."""
