"""From a prediction to an order plan, or to an honest "no signal"."""
