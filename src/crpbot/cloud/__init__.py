"""Training on AWS: the request as data, then one small function that sends it; what comes back is verified before it counts."""
