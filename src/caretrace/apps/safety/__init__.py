"""Safety: crisis, delay, fatigue, burnout, handoffs, documentation and adverse events, foreseen."""
