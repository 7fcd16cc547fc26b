"""What a trained network does: metrics, evaluation modes, single sequences."""
