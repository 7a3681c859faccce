"""Real servers, and what makes them and the way to them go wrong."""
