"""The live ward: samples become steps, steps become scores, scores become alarms that people hear and answer."""
