"""Tables, statistics and figures from stored results."""
