"""The recommended model: what comes next by the subject's own past, and how much speaks for getting worse."""
