"""The page in the browser: `work` does a job within limits, `page` shows it."""
