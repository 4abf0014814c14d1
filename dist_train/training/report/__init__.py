"""What a run reports about itself: start and end, speed, time spent waiting for data."""
