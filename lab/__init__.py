"""Real servers, keys and test models, for tests, drills and benchmarks."""
