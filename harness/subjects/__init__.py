"""Where a path runs when not in this process: other interpreters with other TensorFlows."""
