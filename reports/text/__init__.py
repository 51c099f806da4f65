"""What a report says in words: every sentence is computed, none is assumed."""
