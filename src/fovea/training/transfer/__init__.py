"""Transfer learning: a trained network becomes a classifier of other classes, from the few images that there are."""
