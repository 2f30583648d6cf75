"""The mathematics of the losses: formula, gradient, domain and source; no TensorFlow here."""
