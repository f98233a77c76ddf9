"""What an existing set-up lacks, and what a rollout would risk; see ``judge``."""
