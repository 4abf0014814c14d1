"""What a run says of itself: start and end, speed, time spent waiting for data."""
