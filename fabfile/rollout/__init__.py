"""The heart: plans and steps as pure data and generators. No I/O, no clock."""
