"""The service: predictions, live vitals with alarms, boards and synthetic subjects over HTTP, from bundles.

`caretrace serve` starts it. FastAPI comes with the extra `serve`.
"""
