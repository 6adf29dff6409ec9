"""What bounds a request before any route sees it: size, depth, time, rate, origin."""
