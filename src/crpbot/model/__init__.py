"""From rows to a checkpoint: recipe, network, training, calibration, and the file that holds them."""
