"""What operators do between rollouts: look into containers, take servers out and put them back."""
