"""What a trained network does: measures, evaluation modes, single sequences."""
